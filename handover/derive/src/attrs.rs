//! What the attributes say, checked.

use proc_macro2::Span;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, ExprLit, Fields, Generics, Ident, Lit, LitInt,
    Member, Path, Result, Type, parse_quote,
};

use crate::instead::cannot_cross;

/// As `handover::state::MAX_SPAN`.
const MAX_SPAN: u32 = 64;

/// A struct or enum with everything that its attributes say.
pub struct Described {
    pub ident: Ident,
    pub generics: Generics,
    pub id: u32,
    pub version: u32,
    pub min_version: u32,
    pub readable_by: u32,
    pub body: Body,
}

pub enum Body {
    Struct(Vec<Field>),
    Enum(Vec<Variant>),
}

pub struct Field {
    pub member: Member,
    pub ty: Type,
    pub since: u32,
    pub deprecated: u32,
    /// Deprecated, and still in the stream with its default, for older kernels that expect it.
    pub for_older: bool,
    pub default: Option<Expr>,
    pub pages: bool,
    pub skip: bool,
    /// An `Option` that may be left out of the stream, and skipped by who does not know it.
    pub section: bool,
    /// How it becomes another type in the stream, and comes back.
    pub form: Form,
}

/// What of a field crosses.
pub enum Form {
    /// Its value.
    Itself,
    /// What this module makes of it.
    With(Path),
    /// Its distance from this.
    OffsetFrom(Expr),
}

pub struct Variant {
    pub ident: Ident,
    pub tag: u32,
    pub since: u32,
    pub fields: Vec<Field>,
}

/// A number with the place where it was written.
type Number = Option<(u32, Span)>;

impl Described {
    pub fn read(input: &DeriveInput) -> Result<Self> {
        if let Some(lifetime) = input.generics.lifetimes().next() {
            return Err(Error::new(
                lifetime.span(),
                "a borrow cannot cross a kexec: own the value (String, Vec, Box), or hand over its pages (PageRef)",
            ));
        }
        let is_enum = matches!(input.data, Data::Enum(_));
        let top = Top::read(&input.attrs, is_enum)?;
        let version = top.version.map_or(1, |(n, _)| n);
        let min_version = top.min_version.map_or(version, |(n, _)| n);
        let readable_by = top.readable_by.map_or(version, |(n, _)| n);
        if let Some((n, span)) = top.min_version
            && n > version
        {
            return Err(Error::new(
                span,
                format!("min_version = {n} is above version = {version}: write at most {version}"),
            ));
        }
        if let Some((n, span)) = top.readable_by
            && (n > version || version - n >= MAX_SPAN)
        {
            return Err(Error::new(
                span,
                format!(
                    "readable_by = {n} does not fit version = {version}: write at most that, and at least {}",
                    version.saturating_sub(MAX_SPAN - 1).max(1)
                ),
            ));
        }

        let rules = Rules {
            version,
            min_version,
            readable_by,
        };
        let body = match &input.data {
            Data::Struct(data) => Body::Struct(rules.fields(&data.fields)?),
            Data::Enum(data) => {
                let mut variants = Vec::new();
                let mut next_tag = 0;
                for variant in &data.variants {
                    let variant = rules.variant(variant, next_tag)?;
                    next_tag = variant.tag.wrapping_add(1);
                    if let Some(same) = variants.iter().find(|v: &&Variant| v.tag == variant.tag) {
                        return Err(Error::new(
                            variant.ident.span(),
                            format!(
                                "tag {} is that of `{}` already: write another, #[kstate(tag = N)]",
                                variant.tag, same.ident
                            ),
                        ));
                    }
                    variants.push(variant);
                }
                if variants.is_empty() {
                    return Err(Error::new(
                        input.ident.span(),
                        "an enum without variants has no value that could cross",
                    ));
                }
                Body::Enum(variants)
            }
            Data::Union(data) => {
                return Err(Error::new(
                    data.union_token.span,
                    "which field of a union is valid cannot be told on the other side: write an enum",
                ));
            }
        };
        Ok(Described {
            ident: input.ident.clone(),
            generics: input.generics.clone(),
            id: top.id.map_or(0, |(n, _)| n),
            version,
            min_version,
            readable_by,
            body,
        })
    }
}

/// Attributes of the struct or enum.
#[derive(Default)]
struct Top {
    id: Number,
    nested: Option<Span>,
    version: Number,
    min_version: Number,
    readable_by: Number,
}

impl Top {
    fn read(attrs: &[Attribute], is_enum: bool) -> Result<Self> {
        let mut top = Top::default();
        each_key(attrs, |key, meta| match key {
            "id" => set_number(&mut top.id, meta),
            "nested" => set_flag(&mut top.nested, meta),
            "version" => set_number(&mut top.version, meta),
            "min_version" => set_number(&mut top.min_version, meta),
            "readable_by" if !is_enum => set_number(&mut top.readable_by, meta),
            _ if is_enum => Err(unknown(meta, "id, nested, version, min_version")),
            _ => Err(unknown(
                meta,
                "id, nested, version, min_version, readable_by",
            )),
        })?;
        if let (Some((_, span)), Some(_)) = (top.id, top.nested) {
            return Err(Error::new(
                span,
                "`nested` is for a type without an id: write one of the two",
            ));
        }
        for (number, what) in [
            (top.id, "0 stands for \"no id\": write a number from 1 on"),
            (top.version, "versions begin at 1"),
            (top.min_version, "versions begin at 1"),
            (top.readable_by, "versions begin at 1"),
        ] {
            if let Some((0, span)) = number {
                return Err(Error::new(span, what));
            }
        }
        Ok(top)
    }
}

/// The versions that fields must fit.
struct Rules {
    version: u32,
    min_version: u32,
    readable_by: u32,
}

impl Rules {
    fn fields(&self, fields: &Fields) -> Result<Vec<Field>> {
        fields
            .members()
            .zip(fields)
            .map(|(member, field)| self.field(member, field))
            .collect()
    }

    fn field(&self, member: Member, field: &syn::Field) -> Result<Field> {
        let name = name_of(&member);
        let (mut since, mut deprecated): (Number, Number) = (None, None);
        let (mut pages, mut skip): (Option<Span>, Option<Span>) = (None, None);
        let mut default: Option<Expr> = None;
        let mut section: Option<Span> = None;
        let mut for_older: Option<Span> = None;
        let mut form = Form::Itself;
        each_key(&field.attrs, |key, meta| match key {
            "since" => set_number(&mut since, meta),
            "deprecated" => set_number(&mut deprecated, meta),
            "pages" => set_flag(&mut pages, meta),
            "skip" => set_flag(&mut skip, meta),
            "subsection" => set_flag(&mut section, meta),
            "for_older" => set_flag(&mut for_older, meta),
            "with" | "offset_from" if !matches!(form, Form::Itself) => {
                Err(meta
                    .error("a field crosses in one form: write `with` or `offset_from`, and once"))
            }
            "with" => {
                form = Form::With(module(meta)?);
                Ok(())
            }
            "offset_from" => {
                form = Form::OffsetFrom(as_addresses(meta.value()?.parse()?));
                Ok(())
            }
            "default" if default.is_some() => Err(doubled(meta)),
            "default" => {
                default = Some(match meta.input.peek(syn::Token![=]) {
                    true => meta.value()?.parse()?,
                    false => parse_quote!(::handover::state::derived::Default::default()),
                });
                Ok(())
            }
            _ => Err(unknown(
                meta,
                "since, default, deprecated, for_older, pages, skip, subsection, with, offset_from",
            )),
        })?;

        if skip.is_none()
            && matches!(form, Form::Itself)
            && let Some(instead) = cannot_cross(&field.ty)
        {
            return Err(Error::new(field.ty.span(), format!("`{name}`: {instead}")));
        }
        if let Some(span) = section {
            let other = since.or(deprecated).map(|(_, s)| s).or(skip);
            if other.is_some() || default.is_some() || !matches!(form, Form::Itself) {
                return Err(Error::new(
                    other.unwrap_or(span),
                    format!(
                        "`{name}` is a subsection, in a stream or not whatever the version: leave out all but `subsection` \
                         and `pages`"
                    ),
                ));
            }
        }
        if let (Some(span), Form::With(_) | Form::OffsetFrom(_)) = (skip, &form) {
            return Err(Error::new(
                span,
                format!(
                    "`{name}` is skipped, so it crosses in no form: leave out `with` and `offset_from`"
                ),
            ));
        }

        if let Some(span) = skip {
            if let Some(other) = since.or(deprecated).map(|(_, s)| s).or(pages) {
                return Err(Error::new(
                    other,
                    format!(
                        "`{name}` is skipped, so it is in no version and hands over no pages: leave this out"
                    ),
                ));
            }
            if default.is_none() {
                return Err(Error::new(
                    span,
                    format!(
                        "`{name}` does not cross, so say what it is on the other side: skip, default = EXPR"
                    ),
                ));
            }
        }
        if let Some(default) = &default
            && skip.is_none()
            && since.is_none()
            && deprecated.is_none()
            && section.is_none()
        {
            return Err(Error::new(
                default.span(),
                format!(
                    "every stream has `{name}`, so no default is ever used: leave it out, or write beside it which versions lack \
                     the field (`since`, `deprecated`), or that it does not cross (`skip`)"
                ),
            ));
        }
        if let Some((n, span)) = since {
            if n == 0 {
                return Err(Error::new(span, "versions begin at 1"));
            }
            if n > self.version {
                return Err(Error::new(
                    span,
                    format!(
                        "`{name}` exists since version {n}, but the version written is {}: write version = {n} on the struct",
                        self.version
                    ),
                ));
            }
            if n > self.min_version && default.is_none() {
                return Err(Error::new(
                    span,
                    format!(
                        "streams from version {} on are read (min_version), and those before {n} have no `{name}`: write \
                         #[kstate(since = {n}, default = EXPR)] to say what it is then",
                        self.min_version
                    ),
                ));
            }
        }
        let first = since.map_or(1, |(n, _)| n);
        if let Some((n, span)) = deprecated {
            if n <= first {
                return Err(Error::new(
                    span,
                    format!(
                        "`{name}` exists since version {first}, so it can be deprecated from {} on",
                        first + 1
                    ),
                ));
            }
            if n > self.version {
                return Err(Error::new(
                    span,
                    format!(
                        "`{name}` is gone from version {n} on, but the version written is {}: write version = {n} on the \
                         struct",
                        self.version
                    ),
                ));
            }
            if n > self.readable_by && for_older.is_none() {
                return Err(Error::new(
                    span,
                    format!(
                        "kernels of version {} may read this (readable_by), but they expect `{name}`: write readable_by = {n} \
                         on the struct, or `for_older` here, so that they find its default",
                        self.readable_by
                    ),
                ));
            }
            if default.is_none() {
                return Err(Error::new(
                    span,
                    format!(
                        "streams from version {n} on have no `{name}`: write #[kstate(deprecated = {n}, default = EXPR)] to \
                         say what it is then"
                    ),
                ));
            }
        }
        if let (Some(span), None) = (for_older, deprecated) {
            return Err(Error::new(
                span,
                format!(
                    "`{name}` is in use, so its value is what older kernels find: leave out `for_older`, or write \
                     `deprecated` beside it"
                ),
            ));
        }
        Ok(Field {
            member,
            ty: field.ty.clone(),
            since: first,
            deprecated: deprecated.map_or(0, |(n, _)| n),
            for_older: for_older.is_some(),
            default,
            pages: pages.is_some(),
            skip: skip.is_some(),
            section: section.is_some(),
            form,
        })
    }

    fn variant(&self, variant: &syn::Variant, next_tag: u32) -> Result<Variant> {
        let (mut since, mut tag): (Number, Number) = (None, None);
        each_key(&variant.attrs, |key, meta| match key {
            "since" => set_number(&mut since, meta),
            "tag" => set_number(&mut tag, meta),
            _ => Err(unknown(meta, "since, tag")),
        })?;
        if let Some((n, span)) = since
            && (n == 0 || n > self.version)
        {
            return Err(Error::new(
                span,
                format!(
                    "`{}` exists since version {n}, but the version written is {}: write version = {n} on the enum",
                    variant.ident, self.version
                ),
            ));
        }
        let discriminant = match &variant.discriminant {
            None => None,
            Some((
                _,
                Expr::Lit(ExprLit {
                    lit: Lit::Int(n), ..
                }),
            )) => Some(number(n)?),
            Some((_, other)) if tag.is_none() => {
                return Err(Error::new(
                    other.span(),
                    "the tag in the stream must be a plain number here: write #[kstate(tag = N)]",
                ));
            }
            Some(_) => None,
        };
        let fields = self.fields(&variant.fields)?;
        if let Some(field) = fields.iter().find(|f| f.since > 1 || f.deprecated > 0) {
            return Err(Error::new(
                field.member.span(),
                "fields of a variant have no versions of their own: write a new variant with #[kstate(since = N)], or put \
                 the fields into a struct",
            ));
        }
        if let Some(field) = fields.iter().find(|f| f.section) {
            return Err(Error::new(
                field.member.span(),
                "a variant has no subsections: put its fields into a struct, and the subsection there",
            ));
        }
        Ok(Variant {
            ident: variant.ident.clone(),
            tag: tag.map(|(n, _)| n).or(discriminant).unwrap_or(next_tag),
            since: since.map_or(1, |(n, _)| n),
            fields,
        })
    }
}

/// A field's name as people see it.
pub fn name_of(member: &Member) -> String {
    match member {
        // `r#type` is called `type` in the stream.
        Member::Named(ident) => ident.to_string().trim_start_matches("r#").to_owned(),
        Member::Unnamed(index) => index.index.to_string(),
    }
}

fn each_key(
    attrs: &[Attribute],
    mut f: impl FnMut(&str, &ParseNestedMeta<'_>) -> Result<()>,
) -> Result<()> {
    for attr in attrs.iter().filter(|a| a.path().is_ident("kstate")) {
        attr.parse_nested_meta(|meta| {
            let key = meta.path.get_ident().map(Ident::to_string);
            f(key.as_deref().unwrap_or(""), &meta)
        })?;
    }
    Ok(())
}

fn unknown(meta: &ParseNestedMeta<'_>, known: &str) -> Error {
    meta.error(format!("kstate knows no such word here; it knows {known}"))
}

fn doubled(meta: &ParseNestedMeta<'_>) -> Error {
    meta.error("this stands here twice: leave one out")
}

fn set_number(slot: &mut Number, meta: &ParseNestedMeta<'_>) -> Result<()> {
    if slot.is_some() {
        return Err(doubled(meta));
    }
    let literal: LitInt = meta
        .value()
        .and_then(|value| value.parse())
        .map_err(|e| Error::new(e.span(), "a plain number belongs here, as in `version = 2`"))?;
    *slot = Some((number(&literal)?, literal.span()));
    Ok(())
}

fn number(literal: &LitInt) -> Result<u32> {
    literal.base10_parse().map_err(|_| {
        Error::new(
            literal.span(),
            "write a number of at most 32 bits, without sign",
        )
    })
}

/// The module that makes another type of a field.
fn module(meta: &ParseNestedMeta<'_>) -> Result<Path> {
    let path = meta.value().and_then(|value| value.parse());
    path.map_err(|e| {
        Error::new(
            e.span(),
            "a module's path belongs here, as in `with = counter`; in it are `type Wire` (what crosses), `fn save(&Field) -> \
             Wire` and `fn restore(Wire) -> Result<Field, &'static str>`",
        )
    })
}

/// Of plain numbers, addresses: as a base each would be an `i32`, for want of another hint.
fn as_addresses(mut base: Expr) -> Expr {
    fn plain(expr: &Expr) -> bool {
        match expr {
            Expr::Lit(ExprLit {
                lit: Lit::Int(n), ..
            }) => n.suffix().is_empty(),
            Expr::Paren(inner) => plain(&inner.expr),
            Expr::Binary(both) => plain(&both.left) && plain(&both.right),
            Expr::Range(range) => [&range.start, &range.end]
                .into_iter()
                .all(|end| end.as_deref().is_some_and(plain)),
            _ => false,
        }
    }
    fn suffix(expr: &mut Expr) {
        match expr {
            Expr::Lit(ExprLit {
                lit: Lit::Int(n), ..
            }) => {
                // Not what stands in the source, so it is not to be linted as that.
                let span = n.span().resolved_at(Span::mixed_site());
                *n = LitInt::new(&format!("{}u64", n.base10_digits()), span);
            }
            Expr::Paren(inner) => suffix(&mut inner.expr),
            Expr::Binary(both) => {
                suffix(&mut both.left);
                suffix(&mut both.right);
            }
            Expr::Range(range) => {
                let ends = [&mut range.start, &mut range.end];
                ends.into_iter().flatten().for_each(|end| suffix(end));
            }
            _ => {}
        }
    }
    if plain(&base) {
        suffix(&mut base);
    }
    base
}

fn set_flag(slot: &mut Option<Span>, meta: &ParseNestedMeta<'_>) -> Result<()> {
    if slot.is_some() {
        return Err(doubled(meta));
    }
    if meta.input.peek(syn::Token![=]) {
        return Err(meta.error("this word stands alone, without a value"));
    }
    *slot = Some(meta.path.span());
    Ok(())
}

#[cfg(test)]
#[path = "attrs_tests.rs"]
mod tests;
