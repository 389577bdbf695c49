//! The implementation of `handover::state::KState`.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Generics, Member, parse_quote};

use crate::attrs::{Body, Described, Field, Variant, name_of};

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

    quote! {
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
            const TYPE: ::handover::state::TypeDesc = ::handover::state::TypeDesc::Described(#name);
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
                #save
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
    }
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
    let mut crossing: Vec<&Field> = fields.iter().filter(|f| !f.skip).collect();
    crossing.sort_by_key(|f| f.since);
    crossing
}

fn describe(fields: &[&Field]) -> TokenStream {
    let fields = fields.iter().map(|f| {
        let name = name_of(&f.member);
        let (ty, since, deprecated, pages) = (&f.ty, f.since, f.deprecated, f.pages);
        quote_spanned! { f.ty.span() =>
            ::handover::state::FieldDesc {
                name: #name,
                ty: <#ty as ::handover::state::KState>::TYPE,
                since: #since,
                deprecated: #deprecated,
                pages: #pages,
            }
        }
    });
    quote! { &[ #( #fields ),* ] }
}

/// Bytes that the fields take at least; only those count that every version read has.
fn least(fields: &[&Field], min_version: u32) -> TokenStream {
    let always = fields
        .iter()
        .filter(|f| f.since <= min_version && f.deprecated == 0);
    let types = always.map(|f| &f.ty);
    quote! {
        0 #( + <#types as ::handover::state::KState>::HEAD_SIZE
             + <#types as ::handover::state::KState>::MIN_SIZE )*
    }
}

/// Writes a field; `value` is a place expression of its type, behind a reference.
fn save_field(field: &Field, value: &TokenStream) -> TokenStream {
    let ty = &field.ty;
    quote_spanned! { field.ty.span() =>
        <#ty as ::handover::state::KState>::save_head(enc)?;
        <#ty as ::handover::state::KState>::save(#value, enc)?;
    }
}

/// Reads a field.
fn restore_field(of: &str, field: &Field) -> TokenStream {
    let ty = &field.ty;
    let name = name_of(&field.member);
    quote_spanned! { field.ty.span() => {
        dec.field(#of, #name);
        let head = <#ty as ::handover::state::KState>::restore_head(dec)?;
        dec.field(#of, #name);
        <#ty as ::handover::state::KState>::restore(dec, head)?
    } }
}

fn pages_of(field: &Field, value: &TokenStream) -> TokenStream {
    let (ty, owned) = (&field.ty, field.pages);
    let check = field.pages.then(|| {
        quote_spanned! { field.ty.span() =>
            const {
                assert!(
                    <#ty as ::handover::state::KState>::TYPE.holds_pages(),
                    "`pages` is for a PageRef, or a list, array or option of them; a described type marks its own fields",
                )
            };
        }
    });
    quote! { #check <#ty as ::handover::state::KState>::pages(#value, #owned, f); }
}

fn local(member: &Member) -> Ident {
    format_ident!("field_{}", name_of(member))
}

fn of_struct(name: &str, fields: &[Field], min_version: u32) -> Parts {
    let crossing = in_stream(fields);
    let description = describe(&crossing);
    let access = |f: &Field| {
        let member = &f.member;
        quote! { &self.#member }
    };
    let save = crossing
        .iter()
        .filter(|f| f.deprecated == 0)
        .map(|f| save_field(f, &access(f)));
    let pages = crossing.iter().map(|f| pages_of(f, &access(f)));
    let restore = crossing.iter().map(|f| {
        let (local, ty, since, until) = (local(&f.member), &f.ty, f.since, f.deprecated);
        let read = restore_field(name, f);
        if f.since <= min_version && until == 0 {
            return quote! { let #local: #ty = #read; };
        }
        // The attributes have made sure of a default for every field that a version may lack.
        let default = f.default.iter();
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
        min_size: least(&crossing, min_version),
        save: quote! { #( #save )* },
        restore: quote! {
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
            save_field(f, &quote! { #local })
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
