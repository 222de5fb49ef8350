//! The API's reference, drawn from its OpenAPI document.

use maud::{Markup, html};
use serde_json::{Map, Value};

pub(crate) fn reference(document: &Value) -> Markup {
    let info = &document["info"];
    html! {
        div.doc {
            div.head {
                h1 { "API" }
                p { (prose(text(&info["description"]))) }
            }
            p { "The machine-readable description is an OpenAPI " (text(&document["openapi"])) " document: " a href="/api/openapi.json" { "/api/openapi.json" } "." }
            @for tag in list(&document["tags"]) {
                section.section aria-labelledby={ "tag-" (text(&tag["name"])) } {
                    h2 id={ "tag-" (text(&tag["name"])) } { (super::capital(text(&tag["name"]))) }
                    p.soft { (text(&tag["description"])) "." }
                    @for (path, method, call) in calls(document, text(&tag["name"])) {
                        (self::call(path, method, call))
                    }
                }
            }
            section.section aria-labelledby="shapes" {
                h2 #shapes { "Shapes" }
                @for (name, schema) in entries(&document["components"]["schemas"]) {
                    section id={ "shape-" (name) } {
                        h3 { (name) }
                        p.soft { (prose(text(&schema["description"]))) }
                        (fields(name, schema))
                    }
                }
            }
        }
    }
}

fn call(path: &str, method: &str, call: &Value) -> Markup {
    let parameters = list(&call["parameters"]);
    let body = &call["requestBody"]["content"]["application/json"]["schema"];
    html! {
        article.sheet.stack.call id={ (text(&call["tags"][0])) "-" (text(&call["operationId"])) } {
            h3.row { span.verb.(method) { (method.to_uppercase()) } code { (path) } }
            p { strong { (text(&call["summary"])) "." } " " (prose(text(&call["description"]))) }
            @if call["security"].is_array() { p.small.soft { "Needs a session." } }
            @if !parameters.is_empty() || !body.is_null() {
                div.scroll tabindex="0" role="region" aria-label={ "What " (method.to_uppercase()) " " (path) " takes" } {
                    table {
                        thead { tr { th scope="col" { "Takes" } th scope="col" { "Type" } th scope="col" { "What it is" } } }
                        tbody {
                            @for parameter in parameters {
                                tr {
                                    td { code { (text(&parameter["name"])) } " " span.small.soft { (text(&parameter["in"])) } }
                                    td { (kind(&parameter["schema"])) }
                                    td { (prose(text(&parameter["description"]))) }
                                }
                            }
                            @if !body.is_null() { tr { td { "body" } td { (kind(body)) } td { "as " code { "application/json" } } } }
                        }
                    }
                }
            }
            ul.small {
                @for (status, answer) in entries(&call["responses"]) {
                    @let schema = entries(&answer["content"]).map(|(_, content)| &content["schema"]).next();
                    li {
                        code { (status) } " " (text(&answer["description"]))
                        @if let Some(schema) = schema { ": " (kind(schema)) }
                    }
                }
            }
        }
    }
}

fn fields(name: &str, schema: &Value) -> Markup {
    html! {
        @if let Some(options) = schema["enum"].as_array() {
            p { "One of " @for (place, option) in options.iter().enumerate() { @if place > 0 { ", " } code { (text(option)) } } "." }
        } @else {
            div.scroll tabindex="0" role="region" aria-label={ "Fields of " (name) } {
                table {
                    thead { tr { th scope="col" { "Field" } th scope="col" { "Type" } th scope="col" { "What it is" } } }
                    tbody {
                        @for (name, field) in entries(&schema["properties"]) {
                            tr {
                                td { code { (name) } }
                                td { (kind(field)) }
                                td { (prose(text(&field["description"]))) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A type in words, with a link where it is a shape of its own.
fn kind(schema: &Value) -> Markup {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return html! { a href={ "#shape-" (name) } { (name) } };
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        let options = list(&schema[choice]);
        if !options.is_empty() {
            return html! {
                @for (place, option) in options.iter().enumerate() {
                    @if place > 0 { " or " } (kind(option))
                }
            };
        }
    }
    if schema["items"].is_object() {
        return html! { "list of " (kind(&schema["items"])) };
    }
    if let Some(options) = schema["enum"].as_array() {
        return html! { @for (place, option) in options.iter().enumerate() { @if place > 0 { " or " } code { (text(option)) } } };
    }
    let name = match &schema["type"] {
        Value::Array(names) => names.iter().map(text).collect::<Vec<_>>().join(" or "),
        name => text(name).to_owned(),
    };
    html! { (name) @if let Some(format) = schema["format"].as_str() { " (" (format) ")" } }
}

/// Text with `code` between backticks.
fn prose(text: &str) -> Markup {
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn calls<'a>(
    document: &'a Value,
    tag: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str, &'a Value)> {
    entries(&document["paths"])
        .flat_map(|(path, methods)| {
            entries(methods).map(move |(method, call)| (path, method, call))
        })
        .filter(move |(_, _, call)| list(&call["tags"]).iter().any(|name| name == tag))
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter).map(|(name, value)| (name.as_str(), value))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}
