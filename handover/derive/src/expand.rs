//! The implementation of `handover::state::KState`.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Generics, Member, Path, parse_quote};

use crate::attrs::{Body, Described, Field, Form, Variant, name_of};
use crate::instead::{suspected, suspected_name};

pub fn implementation(d: &Described) -> TokenStream {
    let ident = &d.ident;
    let name = ident.to_string();
    let (id, version, min_version, readable_by) = (d.id, d.version, d.min_version, d.readable_by);
    let generics = with_bounds(&d.generics);
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    let parts = match &d.body {
        Body::Struct(fields) => of_struct(&name, fields, min_version),
        Body::Enum(variants) => of_enum(&name, variants),
    };
    let Parts {
        body,
        min_size,
        save,
        restore,
        pages,
    } = parts;
    let carriers = carriers(&d.body);
    let by_name = suspected_name(ident).map(|name| {
        let name = Ident::new(name, ident.span());
        quote! {
            #[automatically_derived]
            impl #impl_generics ::handover::state::derived::by_name::#name for #ident #ty_generics #where_clause {
                type Itself = Self;
                fn save(
                    &self,
                    enc: &mut ::handover::state::Encoder<'_>,
                ) -> ::handover::state::derived::Result<(), ::handover::Error> {
                    ::handover::state::KState::save(self, enc)
                }
                fn restore(
                    dec: &mut ::handover::state::Decoder<'_>,
                    version: u32,
                ) -> ::handover::state::derived::Result<Self, ::handover::Error> {
                    ::handover::state::KState::restore(dec, version)
                }
                fn pages(&self, owned: bool, f: &mut dyn ::core::ops::FnMut(::handover::PageRef)) {
                    ::handover::state::KState::pages(self, owned, f)
                }
            }
        }
    });

    let implementation = quote! {
        #by_name
        #[automatically_derived]
        impl #impl_generics ::handover::state::KState for #ident #ty_generics #where_clause {
            const DESC: ::handover::state::Desc = ::handover::state::Desc {
                id: #id,
                name: #name,
                version: #version,
                min_version: #min_version,
                readable_by: #readable_by,
                body: #body,
                fingerprint: 0,
            }
            .sealed();
            const TYPE: ::handover::state::TypeDesc = ::handover::state::TypeDesc::Described(
                ::handover::state::DescRef::of::<Self>(#name)
            );
            const MIN_SIZE: usize = #min_size;
            const HEAD_SIZE: usize = ::handover::state::derived::HEAD;

            fn save_head(
                enc: &mut ::handover::state::Encoder<'_>,
            ) -> ::handover::state::derived::Result<(), ::handover::Error> {
                enc.head(&<Self as ::handover::state::KState>::DESC)
            }

            fn restore_head(
                dec: &mut ::handover::state::Decoder<'_>,
            ) -> ::handover::state::derived::Result<u32, ::handover::Error> {
                dec.head(&<Self as ::handover::state::KState>::DESC)
            }

            #[allow(unused_variables)]
            fn save(
                &self,
                enc: &mut ::handover::state::Encoder<'_>,
            ) -> ::handover::state::derived::Result<(), ::handover::Error> {
                enc.enter(#name)?;
                #save
                enc.leave();
                ::handover::state::derived::Ok(())
            }

            #[allow(unused_variables)]
            fn restore(
                dec: &mut ::handover::state::Decoder<'_>,
                version: u32,
            ) -> ::handover::state::derived::Result<Self, ::handover::Error> {
                dec.enter(#name)?;
                #restore
                dec.leave();
                ::handover::state::derived::Ok(value)
            }

            #[allow(unused_variables)]
            fn pages(&self, owned: bool, f: &mut dyn ::core::ops::FnMut(::handover::PageRef)) {
                #pages
            }
        }
    };
    if carriers.is_empty() {
        return implementation;
    }
    quote! {
        const _: () = {
            #( #carriers )*
            #implementation
        };
    }
}

/// The module of a field that crosses in another form: what it lacks is found by name in `derived::missing`, where a sentence
/// stands for it. What a block has from its own `use` hides what is outside of it, and only what is public comes by a `*`.
fn from_module(module: &Path, what: &str) -> TokenStream {
    let what = Ident::new(what, module.span());
    quote! { {
        #[allow(unused_imports)]
        use ::handover::state::derived::missing::#what;
        {
            #[allow(unused_imports)]
            use #module::*;
            #what
        }
    } }
}

/// The name of the type that carries a module's `Wire` out of the block in which it is looked up; another one for each path.
fn carrier(module: &Path) -> Ident {
    let segments = module.segments.iter().map(|segment| {
        let name = segment.ident.to_string();
        format!("_{}{name}", name.len())
    });
    let root = if module.leading_colon.is_some() {
        "Root"
    } else {
        ""
    };
    format_ident!("__With{root}{}", segments.collect::<String>())
}

/// The types that carry the modules' `Wire`s, one for each module.
fn carriers(body: &Body) -> Vec<TokenStream> {
    let fields: Vec<&Field> = match body {
        Body::Struct(fields) => fields.iter().collect(),
        Body::Enum(variants) => variants.iter().flat_map(|v| &v.fields).collect(),
    };
    let mut seen = Vec::new();
    let modules = fields.into_iter().filter_map(|f| match &f.form {
        Form::With(module) => Some((module, carrier(module))),
        _ => None,
    });
    modules
        .filter(|(_, carrier)| {
            let is_new = !seen.contains(carrier);
            if is_new {
                seen.push(carrier.clone());
            }
            is_new
        })
        .map(|(module, carrier)| {
            let wire = Ident::new("Wire", module.span());
            quote! {
                #[allow(non_camel_case_types, dead_code)]
                struct #carrier;
                const _: () = {
                    #[allow(unused_imports)]
                    use ::handover::state::derived::missing::#wire;
                    const _: () = {
                        #[allow(unused_imports)]
                        use #module::*;
                        #[allow(non_local_definitions)]
                        impl ::handover::state::derived::CrossesAs for #carrier {
                            type Wire = #wire;
                        }
                    };
                };
            }
        })
        .collect()
}

/// What differs between structs and enums.
struct Parts {
    body: TokenStream,
    min_size: TokenStream,
    save: TokenStream,
    restore: TokenStream,
    pages: TokenStream,
}

/// Every type parameter must cross too.
fn with_bounds(generics: &Generics) -> Generics {
    let mut generics = generics.clone();
    for param in generics.type_params_mut() {
        param.bounds.push(parse_quote!(::handover::state::KState));
    }
    generics
}

/// The fields that cross, in the order of the stream: an older kernel reads the beginning, and leaves out the rest.
fn in_stream(fields: &[Field]) -> Vec<&Field> {
    let mut crossing: Vec<&Field> = fields.iter().filter(|f| !f.skip && !f.section).collect();
    crossing.sort_by_key(|f| f.since);
    crossing
}

/// The type that stands in the stream for a field.
fn wire_type(field: &Field) -> TokenStream {
    let ty = &field.ty;
    match &field.form {
        _ if field.section => {
            quote_spanned! { ty.span() => <#ty as ::handover::state::derived::Subsection>::Inner }
        }
        Form::Itself => match suspected(ty) {
            Some(name) => {
                let by_name = Ident::new(name, ty.span());
                quote_spanned! { ty.span() =>
                    <#ty as ::handover::state::derived::by_name::#by_name>::Itself
                }
            }
            None => quote! { #ty },
        },
        Form::With(module) => {
            let carrier = carrier(module);
            quote_spanned! { module.span() =>
                <#carrier as ::handover::state::derived::CrossesAs>::Wire
            }
        }
        Form::OffsetFrom(_) => quote! { ::handover::state::Offset },
    }
}

/// Where it stands as what a field crosses: there is to be pointed at where that cannot cross.
fn form_span(field: &Field) -> Span {
    match &field.form {
        Form::With(module) => at(module),
        _ => at(&field.ty),
    }
}

/// The place of something, for code around it. The names in that are the derive's all the same, also where the struct's own
/// tokens and the `derive` come out of different macros.
fn at(tokens: &impl Spanned) -> Span {
    tokens.span().resolved_at(Span::call_site())
}

/// A call of a function of `KState` for what a field crosses as. Of a type that is asked for the trait of its name it is that one's
/// function: were the field taken for a `KState`, it would be found fault with twice. And that call stands where the type does, from
/// its first token to its last: what the compiler says of both is the same then, and it says it once.
fn call(field: &Field, function: &str, arguments: TokenStream) -> TokenStream {
    let (ty, wire) = (&field.ty, wire_type(field));
    let by_name = match field.form {
        Form::Itself if !field.section => suspected(ty),
        _ => None,
    };
    let Some(name) = by_name else {
        let function = Ident::new(function, form_span(field));
        return quote_spanned! { form_span(field) =>
            <#wire as ::handover::state::KState>::#function(#arguments)
        };
    };
    let last = quote! { #ty }.into_iter().last();
    let last = last.map_or(ty.span(), |token| token.span());
    let (name, function) = (Ident::new(name, ty.span()), Ident::new(function, last));
    let path = quote_spanned! { ty.span() =>
        <#ty as ::handover::state::derived::by_name::#name>::#function
    };
    let mut arguments = Group::new(Delimiter::Parenthesis, arguments);
    arguments.set_span(last);
    quote! { #path #arguments }
}

fn describe(fields: &[&Field]) -> TokenStream {
    let fields = fields.iter().map(|f| {
        let name = name_of(&f.member);
        let (ty, since, pages, section) = (wire_type(f), f.since, f.pages, f.section);
        let deprecated = if in_layout(f) { 0 } else { f.deprecated };
        quote_spanned! { form_span(f) =>
            ::handover::state::FieldDesc {
                name: #name,
                ty: <#ty as ::handover::state::KState>::TYPE,
                since: #since,
                deprecated: #deprecated,
                pages: #pages,
                section: #section,
            }
        }
    });
    quote! { &[ #( #fields ),* ] }
}

/// Whether the stream that is written has the field.
fn in_layout(field: &Field) -> bool {
    field.deprecated == 0 || field.for_older
}

/// Bytes that the fields take at least; only those count that every version read has.
fn least(fields: &[&Field], min_version: u32) -> TokenStream {
    let always = fields
        .iter()
        .filter(|f| f.since <= min_version && in_layout(f));
    let sizes = always.map(|f| {
        let ty = wire_type(f);
        quote_spanned! { form_span(f) =>
            + <#ty as ::handover::state::KState>::HEAD_SIZE
            + <#ty as ::handover::state::KState>::MIN_SIZE
        }
    });
    quote! { 0 #( #sizes )* }
}

/// Writes a field; `value` is a place expression of its type, behind a reference.
fn save_field(of: &str, field: &Field, value: &TokenStream) -> TokenStream {
    let ty = wire_type(field);
    let name = name_of(&field.member);
    let wire = match &field.form {
        Form::Itself => quote! { #value },
        Form::With(module) => saved(module, value),
        Form::OffsetFrom(base) => {
            quote! { &::handover::state::Offset::from_address(*#value, #base, #of, #name)? }
        }
    };
    let enc = Ident::new("enc", form_span(field));
    let save = call(field, "save", quote! { #wire, #enc });
    quote_spanned! { form_span(field) =>
        <#ty as ::handover::state::KState>::save_head(enc)?;
        #save?;
    }
}

/// Reads a field.
fn restore_field(of: &str, field: &Field) -> TokenStream {
    let ty = wire_type(field);
    let name = name_of(&field.member);
    let value = match &field.form {
        Form::Itself => quote_spanned! { form_span(field) => wire },
        Form::With(module) => {
            let restore = from_module(module, "restore");
            quote_spanned! { at(module) =>
            match (#restore)(wire) {
                ::handover::state::derived::Ok(value) => value,
                ::handover::state::derived::Err(why) => return ::handover::state::derived::Err({
                    dec.field(#of, #name);
                    dec.fault(::handover::error::ValueFault::Custom(why))
                }),
            } }
        }
        Form::OffsetFrom(base) => quote! { wire.to_address(#base, dec)? },
    };
    let restore = call(
        field,
        "restore",
        quote_spanned! { form_span(field) => dec, head },
    );
    quote_spanned! { form_span(field) => {
        dec.field(#of, #name);
        let head = <#ty as ::handover::state::KState>::restore_head(dec)?;
        dec.field(#of, #name);
        let wire = #restore?;
        #value
    } }
}

/// A field in the form that its module gives it, behind a reference.
fn saved(module: &Path, value: &TokenStream) -> TokenStream {
    let save = from_module(module, "save");
    quote_spanned! { at(module) => &(#save)(#value) }
}

fn pages_of(field: &Field, value: &TokenStream) -> TokenStream {
    let (ty, owned) = (wire_type(field), field.pages);
    let check = field.pages.then(|| {
        quote_spanned! { at(&field.ty) =>
            const {
                assert!(
                    <#ty as ::handover::state::KState>::TYPE.holds_pages(),
                    "`pages` is for a PageRef or PhysRange, or a list, array, map or option of them; a described type marks \
                     its own fields",
                )
            };
        }
    });
    let wire = match &field.form {
        _ if field.section => {
            return quote! {
                #check
                if let ::handover::state::derived::Some(value) =
                    ::handover::state::derived::Subsection::value(#value)
                {
                    <#ty as ::handover::state::KState>::pages(value, #owned, f);
                }
            };
        }
        Form::Itself => quote! { #value },
        Form::With(module) => saved(module, value),
        // An offset names no page.
        Form::OffsetFrom(_) => return quote! { #check },
    };
    let pages = call(field, "pages", quote! { #wire, #owned, f });
    quote! { #check #pages; }
}

fn local(member: &Member) -> Ident {
    format_ident!("field_{}", name_of(member))
}

fn of_struct(name: &str, fields: &[Field], min_version: u32) -> Parts {
    let crossing = in_stream(fields);
    let sections: Vec<&Field> = fields.iter().filter(|f| f.section).collect();
    let all: Vec<&Field> = crossing.iter().chain(&sections).copied().collect();
    let description = describe(&all);
    let access = |f: &Field| {
        let member = &f.member;
        quote! { &self.#member }
    };
    let save = crossing
        .iter()
        .filter(|f| in_layout(f))
        .map(|f| match f.for_older {
            false => save_field(name, f, &access(f)),
            true => {
                let (ty, default) = (&f.ty, f.default.iter());
                let save = save_field(name, f, &quote! { &unused });
                quote! { { let unused: #ty = #( #default )*; #save } }
            }
        });
    let save_sections = sections.iter().map(|f| {
        let (value, name) = (access(f), name_of(&f.member));
        quote_spanned! { at(&f.ty) =>
            ::handover::state::derived::save_section(#name, #value, enc)?;
        }
    });
    let pages = all.iter().map(|f| pages_of(f, &access(f)));
    let no_sections = sections.iter().map(|f| {
        let (local, ty) = (local(&f.member), &f.ty);
        quote! { let mut #local: #ty = ::handover::state::derived::None; }
    });
    let read_sections = sections.iter().map(|f| {
        let (local, field, ty) = (local(&f.member), name_of(&f.member), wire_type(f));
        quote_spanned! { at(&f.ty) =>
            if section.key == const { ::handover::state::section_key(#field) } {
                dec.field(#name, #field);
                let twice = #local.is_some();
                if twice {
                    return ::handover::state::derived::Err(
                        dec.fault(::handover::error::ValueFault::SectionTwice)
                    );
                }
                #local = ::handover::state::derived::Some(dec.in_section::<#ty>(section)?);
                continue;
            }
        }
    });
    let restore = crossing.iter().map(|f| {
        let (local, ty, since, until) = (local(&f.member), &f.ty, f.since, f.deprecated);
        let read = restore_field(name, f);
        if f.since <= min_version && until == 0 {
            return quote! { let #local: #ty = #read; };
        }
        // The attributes have made sure of a default for every field that a version may lack.
        let default = f.default.iter();
        if f.for_older {
            let otherwise = f.default.iter();
            return quote! {
                let #local: #ty = if #since <= version {
                    let read: #ty = #read;
                    if version < #until { read } else { #( #default )* }
                } else {
                    #( #otherwise )*
                };
            };
        }
        quote! {
            let #local: #ty = if #since <= version && (#until == 0 || version < #until) #read else { #( #default )* };
        }
    });
    let members = fields.iter().map(|f| {
        let (member, local) = (&f.member, local(&f.member));
        match (&f.default, f.skip) {
            (Some(default), true) => quote! { #member: #default },
            _ => quote! { #member: #local },
        }
    });
    Parts {
        body: quote! { ::handover::state::Body::Struct(#description) },
        min_size: {
            let least = least(&crossing, min_version);
            quote! { 1 + #least }
        },
        save: quote! {
            #( #save_sections )*
            enc.end_of_sections()?;
            #( #save )*
        },
        restore: quote! {
            #( #no_sections )*
            while let ::handover::state::derived::Some(section) = dec.section()? {
                #( #read_sections )*
                dec.skip_section(section)?;
            }
            #( #restore )*
            let value = Self { #( #members ),* };
        },
        pages: quote! { #( #pages )* },
    }
}

fn of_enum(name: &str, variants: &[Variant]) -> Parts {
    let descriptions = variants.iter().map(|v| {
        let (variant, tag, since) = (v.ident.to_string(), v.tag, v.since);
        let fields = describe(&in_stream(&v.fields));
        quote! {
            ::handover::state::VariantDesc { name: #variant, tag: #tag, since: #since, fields: #fields }
        }
    });
    let sizes = variants.iter().map(|v| least(&in_stream(&v.fields), 1));
    let pattern = |v: &Variant| {
        let ident = &v.ident;
        let bindings = v.fields.iter().map(|f| {
            let (member, local) = (&f.member, local(&f.member));
            match f.skip {
                true => quote! { #member: _ },
                false => quote! { #member: #local },
            }
        });
        quote! { Self::#ident { #( #bindings ),* } }
    };
    let save = variants.iter().map(|v| {
        let (pattern, tag) = (pattern(v), v.tag);
        let fields = in_stream(&v.fields).into_iter().map(|f| {
            let local = local(&f.member);
            save_field(name, f, &quote! { #local })
        });
        quote! { #pattern => { enc.u32(#tag)?; #( #fields )* } }
    });
    let restore = variants.iter().map(|v| {
        let (ident, tag, since) = (&v.ident, v.tag, v.since);
        let lets = in_stream(&v.fields).into_iter().map(|f| {
            let (local, ty) = (local(&f.member), &f.ty);
            let read = restore_field(name, f);
            quote! { let #local: #ty = #read; }
        });
        let members = v.fields.iter().map(|f| {
            let (member, local) = (&f.member, local(&f.member));
            match (&f.default, f.skip) {
                (Some(default), true) => quote! { #member: #default },
                _ => quote! { #member: #local },
            }
        });
        quote! {
            #tag if version >= #since => { #( #lets )* Self::#ident { #( #members ),* } }
        }
    });
    let pages = variants.iter().map(|v| {
        let pattern = pattern(v);
        let fields = in_stream(&v.fields).into_iter().map(|f| {
            let local = local(&f.member);
            pages_of(f, &quote! { #local })
        });
        quote! { #pattern => { #( #fields )* } }
    });
    Parts {
        body: quote! { ::handover::state::Body::Enum(&[ #( #descriptions ),* ]) },
        min_size: quote! { 4 + ::handover::state::derived::smallest(&[ #( #sizes ),* ]) },
        save: quote! { match self { #( #save )* } },
        restore: quote! {
            let tag = dec.u32()?;
            let value = match tag {
                #( #restore )*
                _ => return ::handover::state::derived::Err(
                    dec.fault(::handover::error::ValueFault::Tag(tag))
                ),
            };
        },
        pages: quote! { match self { #( #pages )* } },
    }
}
