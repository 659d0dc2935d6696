//! Draws a request: from a seed and a number alone, so that one that went wrong can be drawn again.

use plimsoll::api::openapi;
use reqwest::Method;
use serde_json::{Map, Value, json};

/// What is known of the service, to ask about.
#[derive(Default)]
pub(super) struct Pool {
    /// Keys that let do something.
    pub(super) keys: Vec<String>,
    /// Runs.
    pub(super) runs: Vec<String>,
    /// Ids of keys that nobody asks by, and so may be revoked.
    pub(super) spare: Vec<String>,
    /// Exceptions.
    pub(super) exceptions: Vec<String>,
}

/// How many of each are kept.
const POOL_MAX: usize = 32;

impl Pool {
    /// Learns names from an answer.
    pub(super) fn learn(&mut self, value: &Value) {
        let new = |list: &mut Vec<String>, name: &Value| {
            let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
            if list.len() < POOL_MAX && !list.contains(&name) {
                list.push(name);
            }
        };
        if value["run"].is_string() {
            new(&mut self.runs, &value["run"]);
        }
        if value["secret"].is_string() {
            new(&mut self.spare, &value["key"]);
        }
        if value["exception"].is_number() {
            new(&mut self.exceptions, &value["exception"]);
        }
    }
}

/// A request.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: Vec<(&'static str, Vec<u8>)>,
    pub(super) key: Option<String>,
    pub(super) body: Option<Vec<u8>>,
    pub(super) has_wrong_key: bool,
    /// True where method and path are the document's.
    pub(super) is_of_operation: bool,
    case: (u64, u64),
}

impl Asked {
    pub(super) fn shown(&self) -> String {
        let headers: Vec<String> =
            self.headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect();
        let body = self.body.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let body: String = body.chars().take(2_000).collect();
        let (seed, case) = self.case;
        format!("seed {seed}, case {case}: {} {} {headers:?}\n{body}", self.method, self.target)
    }
}

/// Splitmix: the same numbers everywhere.
pub(super) struct Draw {
    state: u64,
    case: (u64, u64),
}

const TEXTS: [&str; 26] = [
    "",
    "a",
    "quick",
    "slowly",
    "last",
    "all",
    "all-time",
    "acme",
    "tenant=acme",
    "feature=support",
    "model=openai/gpt-5-mini",
    "openai/gpt-5-mini",
    "ann",
    "bob",
    "3d",
    "0.5",
    "1",
    "-1",
    "2026-11-30T09:00:00Z",
    "9999-12-31T23:59:59Z",
    "=",
    "==,,",
    "\u{0}\u{1b}[31m",
    "\u{202e}\u{feff}é\u{1f600}",
    "'; DROP TABLE runs; --",
    "../../etc/passwd",
];
const NUMBERS: [&str; 14] = [
    "0",
    "1",
    "-1",
    "2",
    "7",
    "1.5",
    "1e3",
    "1e400",
    "255",
    "65536",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
];
const LENGTHS: [&str; 10] = ["0s", "1ms", "5ms", "0", "", "-1s", "1.5.5s", "s", "1e9s", "99999999999999999999999s"];
const IN_PATHS: [&str; 10] =
    ["last", "0", "7", "nothing", "%00", "%ff%fe", "%F0%9F%98%80", "x%2f..%2fy", "a%20b", "01"];
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"];

impl Draw {
    pub(super) fn new(seed: u64, case: u64) -> Self {
        let mut draw = Self { state: seed ^ case.wrapping_mul(0x9e37_79b9_7f4a_7c15), case: (seed, case) };
        draw.next();
        draw
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count.max(1)).expect("a small number");
        usize::try_from(self.next() % count).expect("a small number")
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn of(&mut self, names: &[String]) -> Option<String> {
        (!names.is_empty()).then(|| names[self.below(names.len())].clone())
    }

    pub(super) fn request(&mut self, method: &Method, path: &str, told: &Value, pool: &Pool) -> Asked {
        let mut asked = Asked {
            method: method.clone(),
            target: self.path(path, pool),
            headers: Vec::new(),
            key: self.of(&pool.keys),
            body: None,
            has_wrong_key: false,
            is_of_operation: true,
            case: self.case,
        };
        if self.one_in(25) {
            asked.method = self.pick(&METHODS).parse().expect("a method");
            asked.is_of_operation = asked.method == *method;
        }
        if self.one_in(25) {
            asked.target.push_str(self.pick(&["/", "/x", "//", "%2f", ";x", ".json", "/%00"]));
            asked.is_of_operation = false;
        }
        // The first key may do everything: most questions should get that far.
        if self.one_in(2) {
            asked.key = pool.keys.first().cloned();
        }
        if self.one_in(200) {
            asked.key = [None, Some("plim_x_y".to_owned()), Some("\u{e9}".repeat(9))][self.below(3)].clone();
            asked.has_wrong_key = true;
        }
        self.query(told, &mut asked.target);
        self.headers(told, &mut asked.headers);
        if method == Method::POST || self.one_in(30) {
            asked.body = Some(self.body(&told["requestBody"]["content"]["application/json"]["schema"]));
        }
        asked
    }

    fn path(&mut self, path: &str, pool: &Pool) -> String {
        let mut filled = path.to_owned();
        let known = [
            ("{run}", &pool.runs),
            ("{key}", &pool.spare),
            ("{exception}", &pool.exceptions),
            ("{alert}", &pool.exceptions),
        ];
        for (name, known) in known {
            let odd = if self.one_in(200) { "x".repeat(5_000) } else { self.pick(&IN_PATHS).to_owned() };
            let value = if self.one_in(4) { odd } else { self.of(known).unwrap_or(odd) };
            // The beginning of an id, sometimes.
            let value = if value.is_ascii() && self.one_in(6) { value[..value.len() / 2].to_owned() } else { value };
            // No name at all is another path.
            let value = value.trim_end_matches('%');
            filled = filled.replace(name, if value.is_empty() { "0" } else { value });
        }
        let filled = filled.replace("{budget}", self.pick(&["all-time", "all-time", "nobody", "%ff", "exceptions"]));
        let what = self.pick(&["runs", "events", "focus", "focus", "everything"]);
        filled.replace("{what}", what)
    }

    fn query(&mut self, told: &Value, target: &mut String) {
        let mut url = reqwest::Url::parse("http://x/").expect("a URL");
        for parameter in told["parameters"].as_array().into_iter().flatten().filter(|one| one["in"] == "query") {
            let times = if self.one_in(3) { 1 + self.below(2) } else { 0 };
            for _ in 0..times {
                let name = parameter["name"].as_str().expect("a name");
                let value = match self.value(&parameter["schema"], name, 0) {
                    Value::String(text) => text,
                    Value::Array(values) => values
                        .first()
                        .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                        .unwrap_or_default(),
                    other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => other.to_string(),
                };
                url.query_pairs_mut().append_pair(name, &value);
            }
        }
        if self.one_in(30) {
            url.query_pairs_mut().append_pair(self.pick(&TEXTS), self.pick(&TEXTS));
        }
        let mut query = url.query().unwrap_or_default().to_owned();
        if self.one_in(40) {
            query = [self.pick(&["%", "%ff=%fe", "&&&=", "limit=1&limit=2", "a", "?"]).to_owned(), "x=1&".repeat(70)]
                [self.below(2)]
            .clone();
        }
        if !query.is_empty() {
            *target = format!("{target}?{query}");
        }
    }

    fn headers(&mut self, told: &Value, headers: &mut Vec<(&'static str, Vec<u8>)>) {
        for name in ["idempotency-key", "last-event-id"] {
            let takes = told["parameters"].as_array().into_iter().flatten().any(|one| one["name"] == name);
            if takes && self.one_in(2) || self.one_in(60) {
                let value = match self.below(6) {
                    0 => "\u{e9}\u{1f600}".as_bytes().to_vec(),
                    1 => vec![b'k'; 300],
                    2 => b"".to_vec(),
                    _ => self.pick(&NUMBERS).as_bytes().to_vec(),
                };
                headers.push((name, value));
            }
        }
        if self.one_in(40) {
            headers.push(("plimsoll-api", self.pick(&["1", "2", "x", ""]).as_bytes().to_vec()));
        }
        if self.one_in(20) {
            headers.push((
                "content-type",
                self.pick(&["text/plain", "application/json; charset=latin1", "x", "multipart/form-data"])
                    .as_bytes()
                    .to_vec(),
            ));
        }
        if self.one_in(40) {
            headers.push(("accept", self.pick(&["text/html", "application/xml", "*/*;q=0"]).as_bytes().to_vec()));
        }
        if self.one_in(60) {
            headers.push(("x-odd", vec![b'o'; 4_000]));
        }
    }

    fn body(&mut self, schema: &Value) -> Vec<u8> {
        let value = if self.one_in(12) || schema.is_null() { self.wild(0) } else { self.value(schema, "", 0) };
        let mut text = value.to_string();
        match self.below(24) {
            0 => text.clear(),
            1 => {
                let mut at = self.below(text.len() + 1);
                while !text.is_char_boundary(at) {
                    at -= 1;
                }
                text.truncate(at);
            }
            2 => text = format!("{text}{text}"),
            3 => text = format!("{}1{}", "[".repeat(300), "]".repeat(300)),
            4 => return [text.as_bytes(), b"\xff\xfe"].concat(),
            5 => text = text.replacen(':', ",", 1),
            _ => {}
        }
        text.into_bytes()
    }

    /// A value that fits a schema, mostly.
    fn value(&mut self, schema: &Value, name: &str, depth: usize) -> Value {
        if name == "wait" {
            return json!(self.pick(&LENGTHS));
        }
        if depth > 6 || self.one_in(25) {
            return self.wild(depth);
        }
        if let Some(path) = schema["$ref"].as_str() {
            let document = openapi::document();
            return self.value(
                &document.pointer(path.trim_start_matches('#')).expect("a schema").clone(),
                name,
                depth + 1,
            );
        }
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        for list in ["enum", "oneOf", "anyOf"] {
            let Some(alternatives) = schema[list].as_array() else { continue };
            let one = &alternatives[self.below(alternatives.len())];
            return if list == "enum" { one.clone() } else { self.value(one, name, depth + 1) };
        }
        let kinds: Vec<&str> = match &schema["type"] {
            Value::String(kind) => vec![kind],
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return self.wild(depth),
        };
        match self.pick(&kinds) {
            "object" => self.object(schema, depth),
            "array" => (0..self.below(4)).map(|_| self.value(&schema["items"], name, depth + 1)).collect(),
            "boolean" => json!(self.one_in(2)),
            "null" => Value::Null,
            "integer" | "number" => self.number(schema),
            _ => self.text(schema, name),
        }
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Value {
        let mut object = Map::new();
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, of) in schema["properties"].as_object().into_iter().flatten() {
            let is_required = required.contains(&name.as_str());
            if is_required && !self.one_in(25) || !is_required && self.one_in(3) {
                object.insert(name.clone(), self.value(of, name, depth + 1));
            }
        }
        if schema["additionalProperties"].is_object() {
            for _ in 0..self.below(3) {
                let name = self.pick(&["tenant", "feature", "thread", "priority", "x", "", "owner", "agent"]);
                object.insert(name.to_owned(), self.value(&schema["additionalProperties"], "", depth + 1));
            }
        }
        if self.one_in(30) {
            object.insert(self.pick(&TEXTS).to_owned(), self.wild(depth + 1));
        }
        Value::Object(object)
    }

    fn number(&mut self, schema: &Value) -> Value {
        let bounds = [&schema["minimum"], &schema["maximum"]];
        match self.below(3) {
            0 if !bounds[0].is_null() => bounds[0].clone(),
            1 if !bounds[1].is_null() => bounds[1].clone(),
            _ => serde_json::from_str(self.pick(&NUMBERS)).unwrap_or(json!(3)),
        }
    }

    fn text(&mut self, schema: &Value, name: &str) -> Value {
        let example = schema["examples"][0].as_str();
        let known: &[&str] = match name {
            "agent" => &["a"],
            "budget" => &["all-time"],
            "scope" => &["", "all", "feature=support"],
            "until" => &["3d", "1h", "2026-12-30T09:00:00Z"],
            "data" => &["aGVsbG8=", "iVBORw0KGgo=", "?"],
            "state" => &["running", "finished,stopped"],
            "by" | "reason" | "name" => &["ann", "bob", "a reason"],
            "since" => &["2026-11-30T09:00:00Z", "1970-01-01T00:00:00Z"],
            "label" => &["tenant=acme", "x=y"],
            "only" => &["feature=support", "model="],
            _ => &[],
        };
        match (self.below(5), example, known) {
            (0, _, _) | (_, None, []) => json!(self.pick(&TEXTS)),
            (1 | 2, Some(example), _) | (_, Some(example), []) => json!(example),
            (_, _, known) => json!(self.pick(known)),
        }
    }

    fn wild(&mut self, depth: usize) -> Value {
        match self.below(9) {
            0 => Value::Null,
            1 => json!(true),
            2 | 3 => serde_json::from_str(self.pick(&NUMBERS)).unwrap_or(json!(-0.0)),
            4 | 5 => json!(self.pick(&TEXTS)),
            6 => json!("long ".repeat(2_000)),
            7 if depth < 5 => json!([self.wild(depth + 1)]),
            8 if depth < 5 => json!({ self.pick(&TEXTS): self.wild(depth + 1), "__proto__": {} }),
            _ => json!({}),
        }
    }
}
