//! The API, to read: what the OpenAPI document says, as a page.

use std::sync::LazyLock;

use askama::Template;
use axum::response::Response;
use serde_json::{Map, Value};

use super::guard::Visitor;
use super::layout::{Section, Shell, Told, html};
use crate::api::openapi;

#[derive(Template)]
#[template(path = "docs/docs.html")]
struct DocsPage {
    shell: Shell,
    introduction: String,
    groups: Vec<Group>,
    types: Vec<Type>,
}

/// The paths of one part of the API.
struct Group {
    name: String,
    operations: Vec<Operation>,
}

struct Operation {
    id: String,
    method: String,
    path: String,
    says: String,
    needs: String,
    parameters: Vec<Field>,
    body: Option<(Vec<Piece>, bool)>,
    answers: Vec<Answer>,
}

struct Answer {
    status: String,
    says: String,
    gives: Vec<Piece>,
}

/// A named schema.
struct Type {
    name: String,
    says: String,
    /// What it is, where it has no fields.
    is: Vec<Piece>,
    fields: Vec<Field>,
    /// Its forms, where it has several: each with what tells it apart.
    forms: Vec<Form>,
}

struct Form {
    name: String,
    says: String,
    fields: Vec<Field>,
}

struct Field {
    name: String,
    place: String,
    is: Vec<Piece>,
    required: bool,
    says: String,
}

/// A piece of what something is: a word, or a type's name that leads to it.
struct Piece {
    text: String,
    leads: bool,
}

/// The document as a page.
pub(super) async fn page(visitor: Visitor) -> Result<Response, Told> {
    let document = openapi::document();
    let page = DocsPage {
        shell: visitor.shell(Section::Docs, "API"),
        introduction: text(&document["info"]["description"]),
        groups: groups(document),
        types: object(&document["components"]["schemas"]).iter().map(|(name, schema)| Type::of(name, schema)).collect(),
    };
    html(&page)
}

fn groups(document: &Value) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (path, methods) in object(&document["paths"]) {
        for (method, operation) in object(methods) {
            let name = text(&operation["tags"][0]);
            let operation = Operation::of(method, path, operation);
            match groups.iter_mut().find(|group| group.name == name) {
                Some(group) => group.operations.push(operation),
                None => groups.push(Group { name, operations: vec![operation] }),
            }
        }
    }
    groups
}

impl Operation {
    fn of(method: &str, path: &str, told: &Value) -> Self {
        let parameters = list(&told["parameters"]).iter().filter(|parameter| parameter["$ref"].is_null());
        let body = &told["requestBody"];
        let schema = &body["content"]["application/json"]["schema"];
        Self {
            id: text(&told["operationId"]),
            method: method.to_ascii_uppercase(),
            path: path.to_owned(),
            says: text(&told["summary"]),
            needs: needs(&told["security"]),
            parameters: parameters.map(Field::of_parameter).collect(),
            body: (!schema.is_null()).then(|| (pieces(schema), body["required"] == true)),
            answers: object(&told["responses"]).iter().map(|(status, told)| Answer::of(status, told)).collect(),
        }
    }
}

fn needs(security: &Value) -> String {
    match security[0]["key"].as_array().map(Vec::as_slice) {
        None => "No key is needed.".to_owned(),
        Some([]) => "Any key will do.".to_owned(),
        Some([scope, ..]) => format!("The key needs the scope {}.", text(scope)),
    }
}

impl Answer {
    fn of(status: &str, told: &Value) -> Self {
        let content = object(&told["content"]);
        let mut gives = Vec::new();
        for (media, content) in content {
            match media.as_str() {
                "application/json" | "application/problem+json" => gives.extend(pieces(&content["schema"])),
                media => gives.push(Piece { text: media.to_owned(), leads: false }),
            }
        }
        Self { status: status.to_owned(), says: text(&told["description"]), gives }
    }
}

impl Type {
    fn of(name: &str, schema: &Value) -> Self {
        let alternatives = list(schema.get("oneOf").or_else(|| schema.get("anyOf")).unwrap_or(&Value::Null));
        let mut fields = fields(schema);
        if let Some(more) = schema.get("additionalProperties").filter(|more| more.is_object() && !fields.is_empty()) {
            fields.push(Field { is: pieces(more), ..Field::named("…") });
        }
        let is = if fields.is_empty() && alternatives.is_empty() { pieces(schema) } else { Vec::new() };
        let forms = alternatives.iter().flat_map(Form::all).collect();
        Self { name: name.to_owned(), says: text(&schema["description"]), is, fields, forms }
    }
}

impl Form {
    /// One for each value, or for each kind of object.
    fn all(schema: &Value) -> Vec<Self> {
        let says = text(&schema["description"]);
        if let Some(values) = schema["enum"].as_array() {
            let form = |value: &Value| Self { name: shown(value), says: says.clone(), fields: Vec::new() };
            return values.iter().map(form).collect();
        }
        let fields = fields(schema);
        let tag = object(&schema["properties"]).iter().find(|(_, of)| of.get("const").is_some());
        let name = match (schema.get("const"), tag, &schema["$ref"]) {
            (Some(value), _, _) => shown(value),
            (None, Some((tag, of)), _) => format!("{tag}: {}", shown(&of["const"])),
            (None, None, Value::String(path)) => name_of(path).to_owned(),
            (None, None, _) => pieces(schema).iter().map(|piece| piece.text.as_str()).collect(),
        };
        vec![Self { name, says, fields }]
    }
}

impl Field {
    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), place: String::new(), is: Vec::new(), required: false, says: String::new() }
    }

    fn of_parameter(parameter: &Value) -> Self {
        Self {
            place: text(&parameter["in"]),
            is: pieces(&parameter["schema"]),
            required: parameter["required"] == true,
            says: text(&parameter["description"]),
            ..Self::named(&text(&parameter["name"]))
        }
    }
}

fn fields(schema: &Value) -> Vec<Field> {
    let required = list(&schema["required"]);
    let field = |(name, of): (&String, &Value)| Field {
        is: pieces(of),
        required: required.iter().any(|required| required == name),
        says: text(&of["description"]),
        ..Field::named(name)
    };
    object(&schema["properties"]).iter().map(field).collect()
}

/// What a schema says that a value is.
fn pieces(schema: &Value) -> Vec<Piece> {
    let word = |text: &str| Piece { text: text.to_owned(), leads: false };
    if let Some(path) = schema["$ref"].as_str() {
        return vec![Piece { text: name_of(path).to_owned(), leads: true }];
    }
    if let Some(value) = schema.get("const") {
        return vec![word(&shown(value))];
    }
    if let Some(values) = schema["enum"].as_array() {
        return vec![word(&values.iter().map(shown).collect::<Vec<_>>().join(", "))];
    }
    if let Some(alternatives) = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array) {
        return joined(alternatives.iter().map(pieces), " or ");
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return vec![word("anything")],
    };
    let one = |kind: &str| match (kind, schema.get("items"), schema.get("additionalProperties")) {
        ("array", Some(items), _) => [vec![word("list of ")], pieces(items)].into_iter().flatten().collect(),
        ("object", _, Some(more)) if more.is_object() => {
            [vec![word("map of ")], pieces(more)].into_iter().flatten().collect()
        }
        (kind, _, _) => vec![word(schema["format"].as_str().filter(|_| kind == "string").unwrap_or(kind))],
    };
    joined(kinds.into_iter().map(one), " or ")
}

fn joined(all: impl Iterator<Item = Vec<Piece>>, between: &str) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::new();
    for pieces in all {
        if !joined.is_empty() {
            joined.push(Piece { text: between.to_owned(), leads: false });
        }
        joined.extend(pieces);
    }
    joined
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A text, without the marks of code, which a page has no room for.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().replace('`', "")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn object(value: &Value) -> &Map<String, Value> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    value.as_object().unwrap_or(&NONE)
}
