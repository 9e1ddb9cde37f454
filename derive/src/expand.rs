//! The implementation of `Share`.
//!
//! All names are absolute and nothing is bound that a user's name could meet. For
//!
//! ```text
//! #[repr(C)]
//! struct Order { id: u64, symbol: String }
//! ```
//!
//! this comes out (with `p` for `::sharena::__private`):
//!
//! ```text
//! unsafe impl ::sharena::Share for Order {
//!     const TYPE: p::TypeInfo = p::TypeInfo::new::<Self>(p::Kind::Struct {
//!         name: "Order",
//!         args: &[],
//!         fields: const { &[
//!             p::Field { name: "id", offset: offset_of!(Self, id), of: p::node::<u64> },
//!             p::Field { name: "symbol", offset: offset_of!(Self, symbol), of: p::node::<String> },
//!         ] },
//!     });
//!     const UNLOGGED: bool = false || <u64 as Share>::UNLOGGED || <String as Share>::UNLOGGED;
//! }
//! impl p::MustNotImplDrop for Order {}      // in conflict with an `impl Drop for Order`
//! const _: () = p::check::<Order>();        // if it has no parameters
//! ```
//!
//! `p::node::<String>` carries the span of the field's type, and so does the error when that is not
//! `Share`. Offsets in enums cannot be asked of a stable compiler: they are computed as RFC 2195
//! says (`p::variant_offsets`), and the size that results is compared with the real one.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Data, DataEnum, DataStruct, DeriveInput, Error, Field, Fields, GenericParam, Generics, Member,
    Result, Type, ext::IdentExt, parse_quote_spanned, spanned::Spanned,
};

use crate::{refuse::refuse, repr::Repr};

/// Everything that comes out for this type, or why it cannot be `Share`.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    check_generics(&input.generics)?;
    let repr = Repr::read(&input.attrs)?;
    let info = match &input.data {
        Data::Struct(data) => {
            repr.check_struct(input)?;
            check_fields(data.fields.iter())?;
            struct_info(input, data)
        }
        Data::Enum(data) => {
            let tag = repr.enum_tag(input)?;
            check_fields(data.variants.iter().flat_map(|variant| &variant.fields))?;
            enum_info(input, data, repr.c, tag)
        }
        Data::Union(data) => {
            return Err(Error::new(
                data.union_token.span,
                "a union cannot be `Share`: nothing tells other processes which field it holds; \
                 use an enum with `#[repr(u8)]`",
            ));
        }
    };
    Ok(implementation(input, &info, &unlogged(&input.data)))
}

fn check_generics(generics: &Generics) -> Result<()> {
    match generics.lifetimes().next() {
        None => Ok(()),
        Some(lifetime) => Err(Error::new(
            lifetime.span(),
            "a `Share` type cannot have lifetimes: what it would borrow lies in this process",
        )),
    }
}

/// Refuses fields by how their types are written, all of them at once.
fn check_fields<'a>(fields: impl Iterator<Item = &'a Field>) -> Result<()> {
    let errors = fields.filter_map(|field| refuse(&field.ty));
    let all = errors.reduce(|mut all, error| {
        all.combine(error);
        all
    });
    all.map_or(Ok(()), Err)
}

/// The items that come out, around the description of the type.
fn implementation(input: &DeriveInput, info: &TokenStream, unlogged: &TokenStream) -> TokenStream {
    let name = &input.ident;
    let generics = with_bounds(&input.generics);
    let (parameters, arguments, conditions) = generics.split_for_impl();
    let has_parameters =
        generics.type_params().next().is_some() || generics.const_params().next().is_some();
    let at_name = name.span().resolved_at(Span::mixed_site());
    let no_drop = quote_spanned! {at_name=>
        #[automatically_derived]
        #[allow(deprecated)]
        impl #parameters ::sharena::__private::MustNotImplDrop for #name #arguments #conditions {}
    };
    let check = (!has_parameters).then(|| {
        quote_spanned! {at_name=>
            #[allow(deprecated)]
            const _: () = ::sharena::__private::check::<#name>();
        }
    });
    quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        unsafe impl #parameters ::sharena::Share for #name #arguments #conditions {
            const TYPE: ::sharena::__private::TypeInfo = #info;
            const UNLOGGED: bool = #unlogged;
        }

        #no_drop

        #check
    }
}

/// Whether an `Unlogged` lies in the type. An enum must not have any: its tag would be put back
/// after a death, and the fields would not.
fn unlogged(data: &Data) -> TokenStream {
    match data {
        Data::Struct(data) => {
            let fields = data.fields.iter().map(|field| is_unlogged(&field.ty));
            quote!(false #(|| #fields)*)
        }
        Data::Enum(data) => {
            let fields = data.variants.iter().flat_map(|variant| &variant.fields);
            let checks = fields.map(|field| {
                let is_unlogged = is_unlogged(&field.ty);
                quote_spanned! {field.ty.span()=>
                    ::core::assert!(
                        !#is_unlogged,
                        "an enum cannot hold an `Unlogged`: after a death its tag is put back, and \
                         the fields would not be"
                    );
                }
            });
            quote!({ #(#checks)* false })
        }
        Data::Union(_) => quote!(false),
    }
}

fn is_unlogged(of: &Type) -> TokenStream {
    quote_spanned!(of.span()=> <#of as ::sharena::Share>::UNLOGGED)
}

/// The type's parameters, with `Share` required of the types among them.
fn with_bounds(generics: &Generics) -> Generics {
    let mut generics = generics.clone();
    for parameter in &mut generics.params {
        if let GenericParam::Type(parameter) = parameter {
            let span = parameter.ident.span();
            parameter
                .bounds
                .push(parse_quote_spanned!(span=> ::sharena::Share));
        }
    }
    generics
}

fn struct_info(input: &DeriveInput, data: &DataStruct) -> TokenStream {
    let name = input.ident.unraw().to_string();
    let args = type_args(&input.generics);
    let fields = data
        .fields
        .iter()
        .zip(data.fields.members())
        .map(|(field, member)| {
            let name = member_name(&member);
            let of = type_ref(&field.ty);
            quote! {
                ::sharena::__private::Field {
                    name: #name,
                    offset: ::core::mem::offset_of!(Self, #member),
                    of: #of,
                }
            }
        });
    quote! {
        ::sharena::__private::TypeInfo::new::<Self>(::sharena::__private::Kind::Struct {
            name: #name,
            args: #args,
            fields: const { &[#(#fields),*] },
        })
    }
}

fn enum_info(
    input: &DeriveInput,
    data: &DataEnum,
    is_c: bool,
    (tag, tag_kind): (&str, &str),
) -> TokenStream {
    let name = input.ident.unraw().to_string();
    let args = type_args(&input.generics);
    let tag: Type = {
        let tag = format_ident!("{tag}");
        parse_quote_spanned!(Span::call_site()=> ::core::primitive::#tag)
    };
    let tag_kind = format_ident!("{tag_kind}");
    let parts: Vec<_> = data.variants.iter().map(|v| parts(&v.fields)).collect();
    let start = match is_c {
        true => quote! {
            ::sharena::__private::enum_start(
                ::sharena::__private::Part::of::<#tag>(),
                &[#(&#parts),*],
            )
        },
        false => quote!(::core::mem::size_of::<#tag>()),
    };
    let discriminants = discriminants(data, &tag);
    let variants = data.variants.iter().zip(&parts).zip(discriminants);
    let variants = variants.map(|((variant, parts), discriminant)| {
        let name = variant.ident.unraw().to_string();
        let fields = variant_fields(&variant.fields, &start, parts);
        quote! {
            ::sharena::__private::Variant {
                name: #name,
                discriminant: #discriminant,
                fields: #fields,
            }
        }
    });
    quote! {
        ::sharena::__private::enum_info::<Self>(
            #start,
            &[#(&#parts),*],
            ::sharena::__private::Kind::Enum {
                name: #name,
                args: #args,
                tag: ::sharena::__private::Primitive::#tag_kind,
                variants: const { &[#(#variants),*] },
            },
        )
    }
}

/// Size and alignment of each field.
fn parts(fields: &Fields) -> TokenStream {
    let types = fields.iter().map(|field| &field.ty);
    quote!([#(::sharena::__private::Part::of::<#types>()),*])
}

fn variant_fields(fields: &Fields, start: &TokenStream, parts: &TokenStream) -> TokenStream {
    let fields = fields.iter().zip(fields.members()).enumerate();
    let fields = fields.map(|(index, (field, member))| {
        let name = member_name(&member);
        let of = type_ref(&field.ty);
        quote! {
            ::sharena::__private::Field {
                name: #name,
                offset: ::sharena::__private::variant_offsets(#start, #parts)[#index],
                of: #of,
            }
        }
    });
    quote!(const { &[#(#fields),*] })
}

/// The discriminant of each variant: as written, or one more than the last.
fn discriminants(data: &DataEnum, tag: &Type) -> Vec<TokenStream> {
    let mut base = quote!(0);
    let mut steps = 0i128;
    let mut all = Vec::new();
    for variant in &data.variants {
        if let Some((_, written)) = &variant.discriminant {
            base = quote!((#written) as #tag as ::core::primitive::i128);
            steps = 0;
        }
        all.push(quote!((#base) + #steps));
        steps += 1;
    }
    all
}

/// The type arguments of `Self`.
fn type_args(generics: &Generics) -> TokenStream {
    let args = generics.type_params().map(|parameter| &parameter.ident);
    quote!(const { &[#(::sharena::__private::node::<#args> as ::sharena::__private::TypeRef),*] })
}

/// The reference to a field's type, at the span of the field.
fn type_ref(of: &Type) -> TokenStream {
    quote_spanned!(of.span()=> ::sharena::__private::node::<#of>)
}

fn member_name(member: &Member) -> String {
    match member {
        Member::Named(name) => Ident::unraw(name).to_string(),
        Member::Unnamed(index) => index.index.to_string(),
    }
}
