//! JSON Schemas of what `--json` prints, read off the source of the report types: their fields,
//! their serde attributes and their documentation. So there is one definition, and no attribute in
//! `src` that only schemas would need.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, Fields, Item, ItemUse, Lit, Meta, Token, Type, UseTree};

/// A type that serde writes, and where it stands.
struct Known {
    file: String,
    item: Item,
}

/// A name that a file takes over: from `use a::b::Name as Other`.
struct Taken {
    path: Vec<String>,
    name: String,
    as_name: String,
}

/// The source of all reports.
pub struct Contract {
    known: BTreeMap<String, Vec<Known>>,
    taken: BTreeMap<String, Vec<Taken>>,
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match path.is_dir() {
            true => rust_files(&path, out),
            false => out.extend((path.extension().is_some_and(|e| e == "rs")).then_some(path)),
        }
    }
}

/// What stands in `#[NAME(...)]` of each attribute with that name.
fn metas(attributes: &[Attribute], name: &str) -> Vec<Meta> {
    let of = attributes.iter().filter(|attribute| attribute.path().is_ident(name));
    let parse = Punctuated::<Meta, Token![,]>::parse_terminated;
    of.flat_map(|attribute| attribute.parse_args_with(parse).unwrap()).collect()
}

fn text(expr: &Expr) -> Option<String> {
    let Expr::Lit(literal) = expr else { return None };
    let Lit::Str(text) = &literal.lit else { return None };
    Some(text.value())
}

/// The value of `#[serde(NAME = "value")]`; empty for `#[serde(NAME)]`.
fn serde(attributes: &[Attribute], name: &str) -> Option<String> {
    metas(attributes, "serde").into_iter().find(|meta| meta.path().is_ident(name)).map(|meta| {
        let Meta::NameValue(pair) = meta else { return String::new() };
        text(&pair.value).unwrap_or_default()
    })
}

/// The documentation, as one paragraph; names of code lose the brackets of links.
fn documentation(attributes: &[Attribute]) -> String {
    let of = attributes.iter().filter(|attribute| attribute.path().is_ident("doc"));
    let lines = of.filter_map(|attribute| text(&attribute.meta.require_name_value().ok()?.value));
    let joined = lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>().join(" ");
    joined.replace("[`", "`").replace("`]", "`").trim().to_owned()
}

/// `name` by serde's `rename_all`.
fn renamed(name: &str, rule: Option<&str>) -> String {
    let words = |between: &str| {
        let mut out = String::new();
        for (i, letter) in name.chars().enumerate() {
            if letter.is_uppercase() && i > 0 {
                out += between;
            }
            out.extend(letter.to_lowercase());
        }
        out
    };
    match rule {
        None => name.to_owned(),
        Some("lowercase") => name.to_lowercase(),
        Some("snake_case") => words("_"),
        Some("kebab-case") => words("-"),
        Some(other) => panic!("rename_all = {other:?} is not known here"),
    }
}

fn leaves(tree: &UseTree, path: &[String], out: &mut Vec<Taken>) {
    match tree {
        UseTree::Path(step) => {
            leaves(&step.tree, &[path, &[step.ident.to_string()]].concat(), out);
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, path, out)),
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            out.push(Taken { path: path.to_vec(), as_name: name.clone(), name });
        }
        UseTree::Rename(rename) => {
            let (name, as_name) = (rename.ident.to_string(), rename.rename.to_string());
            out.push(Taken { path: path.to_vec(), name, as_name });
        }
        UseTree::Glob(_) => {}
    }
}

impl Contract {
    /// Reads `src` and the crates beside it.
    pub fn read(root: &Path) -> Contract {
        let mut files = Vec::new();
        for folder in ["src", "crates/gguf/src"] {
            rust_files(&root.join(folder), &mut files);
        }
        files.sort();
        let mut contract = Contract { known: BTreeMap::new(), taken: BTreeMap::new() };
        for path in files {
            let file = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
            for item in syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap().items {
                contract.add(&file, item);
            }
        }
        contract
    }

    fn add(&mut self, file: &str, item: Item) {
        let (attributes, name) = match &item {
            Item::Struct(item) => (&item.attrs, &item.ident),
            Item::Enum(item) => (&item.attrs, &item.ident),
            Item::Use(ItemUse { tree, .. }) => {
                return leaves(tree, &[], self.taken.entry(file.into()).or_default());
            }
            _ => return,
        };
        let derives = metas(attributes, "derive");
        if derives.iter().any(|derive| derive.path().is_ident("Serialize")) {
            let known = self.known.entry(name.to_string()).or_default();
            known.push(Known { file: file.into(), item });
        }
    }

    /// The type called `name` in `file`, which may have taken it over from elsewhere.
    fn resolve(&self, name: &str, file: &str) -> &Known {
        let mut taken = self.taken.get(file).into_iter().flatten();
        let taken = taken.rfind(|taken| taken.as_name == name);
        let own = taken.map_or(name, |taken| &taken.name);
        let all = self.known.get(own).unwrap_or_else(|| panic!("{file}: no type {name}"));
        let places = || all.iter().filter(|known| known.file == file);
        // The module that the path names; of several the one nearest to `file`.
        let named = |known: &&Known| {
            let steps = taken.map_or(&[][..], |taken| &taken.path);
            let module = steps.iter().rev().find(|step| *step != "super" && *step != "crate");
            module.is_some_and(|module| known.file.contains(&format!("/{module}")))
        };
        let common = |known: &&Known| {
            known.file.chars().zip(file.chars()).take_while(|(a, b)| a == b).count()
        };
        if taken.is_none() && places().count() == 1 {
            return places().next().unwrap();
        }
        let nearest = all.iter().filter(named).max_by_key(common);
        nearest.or_else(|| all.iter().max_by_key(common)).unwrap()
    }

    /// The schema of `Report` of a verb; None where it has none.
    pub fn schema(&self, verb: &str) -> Option<Value> {
        let start = format!("src/verbs/{}", verb.replace('-', "_"));
        let is_report = |known: &&Known| {
            let rest = known.file.strip_prefix(&start);
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        let report = self.known.get("Report")?.iter().find(is_report)?;
        let mut writer = Writer { contract: self, defs: BTreeMap::new() };
        let mut schema = writer.item(report);
        let object = schema.as_object_mut().unwrap();
        object.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        object.insert("title".into(), format!("aird {verb} --json").into());
        let defs = writer.defs.into_iter().map(|(_, (name, schema))| (name, schema));
        let defs: Map<String, Value> = defs.collect();
        if !defs.is_empty() {
            object.insert("$defs".into(), defs.into());
        }
        Some(schema)
    }
}

/// Writes a schema; types that it comes across are defined once.
struct Writer<'c> {
    contract: &'c Contract,
    /// By file and name.
    defs: BTreeMap<(String, String), (String, Value)>,
}

impl Writer<'_> {
    fn item(&mut self, known: &Known) -> Value {
        let (mut schema, attributes) = match &known.item {
            Item::Struct(item) => (self.fields(&item.fields, &item.attrs, known), &item.attrs),
            Item::Enum(item) => (self.variants(item, known), &item.attrs),
            _ => unreachable!("only structs and enums are known"),
        };
        let about = documentation(attributes);
        if let (false, Some(object)) = (about.is_empty(), schema.as_object_mut()) {
            object.insert("description".into(), about.into());
        }
        schema
    }

    fn fields(&mut self, fields: &Fields, attributes: &[Attribute], known: &Known) -> Value {
        if serde(attributes, "transparent").is_some() {
            return self.ty(&fields.iter().next().unwrap().ty, known);
        }
        let Fields::Named(named) = fields else {
            let types: Vec<&Type> = fields.iter().map(|field| &field.ty).collect();
            return match types.as_slice() {
                [only] => self.ty(only, known),
                several => {
                    let items: Vec<Value> = several.iter().map(|ty| self.ty(ty, known)).collect();
                    json!({"type": "array", "prefixItems": items, "items": false})
                }
            };
        };
        let (mut properties, mut required) = (Map::new(), Vec::new());
        let rule = serde(attributes, "rename_all");
        for field in &named.named {
            if serde(&field.attrs, "skip").is_some() {
                continue;
            }
            let mut schema = self.ty(&field.ty, known);
            if serde(&field.attrs, "flatten").is_some() {
                let inner = self.definition_of(&schema);
                properties.extend(inner["properties"].as_object().unwrap().clone());
                required.extend(inner["required"].as_array().unwrap().clone());
                continue;
            }
            let name = field.ident.as_ref().unwrap().to_string();
            let name = name.strip_prefix("r#").unwrap_or(&name);
            let name =
                serde(&field.attrs, "rename").unwrap_or_else(|| renamed(name, rule.as_deref()));
            let about = documentation(&field.attrs);
            if !about.is_empty() {
                schema["description"] = about.into();
            }
            if serde(&field.attrs, "skip_serializing_if").is_none() {
                required.push(name.clone().into());
            }
            properties.insert(name, schema);
        }
        json!({
            "type": "object", "properties": properties, "required": required,
            "additionalProperties": false,
        })
    }

    fn variants(&mut self, item: &syn::ItemEnum, known: &Known) -> Value {
        let rule = serde(&item.attrs, "rename_all");
        let is_untagged = serde(&item.attrs, "untagged").is_some();
        let (mut words, mut others) = (Vec::new(), Vec::new());
        for variant in &item.variants {
            let name = renamed(&variant.ident.to_string(), rule.as_deref());
            let name = serde(&variant.attrs, "rename").unwrap_or(name);
            match (&variant.fields, is_untagged) {
                (Fields::Unit, _) => words.push(Value::from(name)),
                (fields, true) => others.push(self.fields(fields, &variant.attrs, known)),
                (fields, false) => {
                    let inner = self.fields(fields, &variant.attrs, known);
                    others.push(json!({
                        "type": "object", "properties": {&name: inner}, "required": [name],
                        "additionalProperties": false,
                    }));
                }
            }
        }
        if others.is_empty() {
            return json!({"enum": words});
        }
        others.extend((!words.is_empty()).then(|| json!({"enum": words})));
        json!({"anyOf": others})
    }

    /// What a `$ref` stands for.
    fn definition_of(&self, schema: &Value) -> Value {
        let Some(name) = schema["$ref"].as_str().and_then(|at| at.strip_prefix("#/$defs/")) else {
            return schema.clone();
        };
        self.defs.values().find(|(own, _)| own == name).unwrap().1.clone()
    }

    fn ty(&mut self, ty: &Type, known: &Known) -> Value {
        match ty {
            Type::Reference(reference) => self.ty(&reference.elem, known),
            Type::Array(array) => json!({"type": "array", "items": self.ty(&array.elem, known)}),
            Type::Slice(slice) => json!({"type": "array", "items": self.ty(&slice.elem, known)}),
            Type::Tuple(tuple) => {
                let items: Vec<Value> = tuple.elems.iter().map(|ty| self.ty(ty, known)).collect();
                json!({"type": "array", "prefixItems": items, "items": false})
            }
            Type::Path(path) => {
                let last = path.path.segments.last().unwrap();
                let arguments: Vec<&Type> = match &last.arguments {
                    syn::PathArguments::AngleBracketed(list) => {
                        let types = list.args.iter().filter_map(|argument| match argument {
                            syn::GenericArgument::Type(ty) => Some(ty),
                            _ => None,
                        });
                        types.collect()
                    }
                    _ => Vec::new(),
                };
                self.named(&last.ident.to_string(), &arguments, known)
            }
            _ => panic!("{}: a type that is not known here", known.file),
        }
    }

    fn named(&mut self, name: &str, arguments: &[&Type], known: &Known) -> Value {
        match (name, arguments) {
            ("String" | "str" | "PathBuf" | "Path", _) => json!({"type": "string"}),
            ("bool", _) => json!({"type": "boolean"}),
            ("f32" | "f64", _) => json!({"type": ["number", "null"]}),
            ("Value", _) => json!({}),
            ("Map", _) => json!({"type": "object"}),
            (name, []) if name.starts_with(['u', 'i']) && name != "u" => {
                json!({"type": "integer"})
            }
            ("Option", [inner]) => json!({"anyOf": [self.ty(inner, known), {"type": "null"}]}),
            ("Vec", [inner]) => json!({"type": "array", "items": self.ty(inner, known)}),
            ("Box" | "Arc" | "Cow", [inner]) => self.ty(inner, known),
            ("IndexMap" | "BTreeMap" | "HashMap", [_, value]) => {
                json!({"type": "object", "additionalProperties": self.ty(value, known)})
            }
            _ => self.reference(name, known),
        }
    }

    fn reference(&mut self, name: &str, known: &Known) -> Value {
        let found = self.contract.resolve(name, &known.file);
        let ident = match &found.item {
            Item::Struct(item) => &item.ident,
            Item::Enum(item) => &item.ident,
            _ => unreachable!("only structs and enums are known"),
        };
        let key = (found.file.clone(), ident.to_string());
        if !self.defs.contains_key(&key) {
            let taken = self.defs.values().any(|(own, _)| *own == key.1);
            let folder = found.file.rsplit('/').nth(1).unwrap_or_default();
            let own = if taken { format!("{}_{folder}", key.1) } else { key.1.clone() };
            // First its name, for a type that holds itself.
            self.defs.insert(key.clone(), (own, Value::Null));
            let schema = self.item(found);
            self.defs.get_mut(&key).unwrap().1 = schema;
        }
        json!({"$ref": format!("#/$defs/{}", self.defs[&key].0)})
    }
}

/// Where `value` does not fit `schema`, of what such schemas use.
///
/// # Errors
/// The place and what is wrong there.
pub fn fits(value: &Value, schema: &Value, root: &Value, at: &str) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        return fits(value, root.pointer(&name[1..]).ok_or(name)?, root, at);
    }
    if let Some(ways) = schema["anyOf"].as_array() {
        let tries = ways.iter().map(|way| fits(value, way, root, at));
        let failed: Vec<String> = tries.map_while(Result::err).collect();
        return if failed.len() < ways.len() { Ok(()) } else { Err(failed.join("; or ")) };
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.contains(value).then_some(()).ok_or(format!("{at}: {value} of {words:?}"));
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = |name: &Value| name == kind || (kind == "integer" && name == "number");
    let is_allowed = match &schema["type"] {
        Value::Null => true,
        Value::Array(names) => names.iter().any(allowed),
        name => allowed(name),
    };
    if !is_allowed {
        return Err(format!("{at}: {value}, expected {}", schema["type"]));
    }
    for (place, item) in value.as_array().into_iter().flatten().enumerate() {
        let of_place = schema["prefixItems"].get(place);
        let Some(schema) = of_place.or_else(|| schema.get("items")) else { continue };
        if schema == false {
            return Err(format!("{at}: more than {place} items"));
        }
        fits(item, schema, root, &format!("{at}/{place}"))?;
    }
    let Some(object) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        if !object.contains_key(name) {
            return Err(format!("{at}: no field '{name}'"));
        }
    }
    for (name, item) in object {
        let schema = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        match schema {
            Some(Value::Bool(false)) => return Err(format!("{at}: no field '{name}' expected")),
            Some(schema) => fits(item, schema, root, &format!("{at}/{name}"))?,
            None => {}
        }
    }
    Ok(())
}
