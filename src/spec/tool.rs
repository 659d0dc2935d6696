//! `tools/*.toml` resolved into [`ToolPlan`]s.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use toml::Spanned;
use toml::de::DeTable;

use crate::domain::builtin;
use crate::domain::plan::{Approval, Builtin, ToolKind, ToolPlan};
use crate::ids::ToolName;
use crate::spec::configuration::{check_header, is_secret_header};
use crate::spec::fault::{Faults, Source, code};
use crate::spec::files::clean;
use crate::spec::json_schema;
use crate::spec::keys::tool::TOOL;
use crate::spec::names::{NAME_FORM, is_name, is_variable};
use crate::spec::reader::{At, Node};
use crate::spec::shape::{Shape, TEXT};
use crate::spec::template::{self, Exact, Names, Place};
use crate::units::{Millis, Money};

/// The keys that only some kinds of tool have, and those kinds.
const KEYS_OF_KINDS: [(&str, &[&str]); 13] = [
    ("command", &["command"]),
    ("directory", &["command"]),
    ("stdin", &["command"]),
    ("env", &["command", "http"]),
    ("url", &["http"]),
    ("method", &["http"]),
    ("headers", &["http"]),
    ("body", &["http"]),
    ("allowed_hosts", &["http"]),
    ("allow_private", &["http"]),
    ("builtin", &["builtin"]),
    ("folders", &["builtin"]),
    ("template", &["builtin"]),
];

/// A time limit or size that a tool leaves to the agent.
pub(crate) const LEFT_TO_AGENT: u64 = u64::MAX;

/// Resolves a parsed tool file. Its time limit and size may still be [`LEFT_TO_AGENT`].
pub(crate) fn resolve(
    root: &Path,
    name: &str,
    source: &Source,
    table: &Spanned<DeTable<'_>>,
    faults: &mut Faults,
) -> Option<ToolPlan> {
    let node = Node::root(source, table, &TOOL, faults);
    let tool = Tool { node, root };
    if !is_name(name) {
        let message = format!("`{name}` is no name of a tool");
        tool.node.fault(faults, code::BAD_NAME, &(0..0), message, format!("rename the file: {NAME_FORM}"));
    }
    let kind = tool.node.text("kind")?.value;
    tool.check_keys(&kind, faults);
    let schema = json_schema::read_object(&tool.node, "input", faults);
    let resolved = match kind.as_str() {
        "command" => tool.command(schema.as_ref(), faults),
        "http" => tool.http(schema.as_ref(), faults),
        _ => tool.builtin(schema.as_ref(), faults).map(ToolKind::Builtin),
    };
    tool.plan(name, schema, resolved, faults)
}

/// A tool file that is being resolved.
struct Tool<'a> {
    node: Node<'a>,
    root: &'a Path,
}

impl Tool<'_> {
    fn plan(&self, name: &str, schema: Option<Value>, kind: Option<ToolKind>, faults: &mut Faults) -> Option<ToolPlan> {
        let described = self.node.text("description").map(|text| text.value);
        let (described, schema) = match &kind {
            Some(ToolKind::Builtin(tool)) => (
                described.or_else(|| Some(builtin::default_description(tool).to_owned())),
                schema.or_else(|| Some(builtin::default_input(tool))),
            ),
            Some(ToolKind::Command { .. } | ToolKind::Http { .. } | ToolKind::Agent { .. }) | None => {
                (described, schema)
            }
        };
        if !self.node.has("builtin") {
            self.must_have("description", "the model reads what the tool does", faults);
            self.must_have("input", "write the JSON Schema of the arguments", faults);
        }
        let node = &self.node;
        Some(ToolPlan {
            name: ToolName::from(name),
            description: described?,
            input: schema?,
            timeout: node.duration("timeout").map_or(Millis(LEFT_TO_AGENT), |time| time.value),
            output_bytes: node.count("output_bytes").map_or(LEFT_TO_AGENT, |bytes| bytes.value),
            idempotent: node.boolean("idempotent").unwrap_or(matches!(kind, Some(ToolKind::Builtin(_)))),
            price: node.money("price").map_or(Money::ZERO, |price| price.value),
            kind: kind?,
            approval: self.approval(),
        })
    }

    fn approval(&self) -> Approval {
        let is_always = self.node.text("approval").is_some_and(|word| word.value == "always");
        if is_always { Approval::Always } else { Approval::Never }
    }

    /// Reports keys that tools of this kind don't have.
    fn check_keys(&self, kind: &str, faults: &mut Faults) {
        for (key, kinds) in KEYS_OF_KINDS {
            if self.node.has(key) && !kinds.contains(&kind) {
                let kinds: Vec<String> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
                let message = format!("a tool of kind `{kind}` has no `{key}`");
                let help = format!("`{key}` is a key of kind {}", kinds.join(" and "));
                self.node.fault(faults, code::CONFLICT, &self.node.key_span(key), message, help);
            }
        }
    }

    fn must_have(&self, key: &str, why: &str, faults: &mut Faults) {
        if !self.node.has(key) {
            let message = format!("the tool has no `{key}`");
            self.node.fault(faults, code::MISSING_KEY, &(0..0), message, why);
        }
    }

    fn command(&self, schema: Option<&Value>, faults: &mut Faults) -> Option<ToolKind> {
        self.must_have(
            "command",
            "name the program and its arguments: `command = [\"./program\", \"{{ args.name }}\"]`",
            faults,
        );
        let names = Names::of_schema("args", schema);
        let env = self.env(faults);
        let directory = self.node.text("directory");
        let directory = directory.map(|folder| self.folder(&folder, faults)).unwrap_or_else(|| show(self.root));
        let stdin = self.template("stdin", &names, faults);
        let parts = self.node.texts("command")?.value;
        for part in &parts[1..] {
            self.check_template(part, &names, faults);
        }
        let mut command: Vec<String> = parts.iter().map(|part| part.value.clone()).collect();
        command[0] = self.program(&parts[0], faults);
        Some(ToolKind::Command { command, directory, env, stdin })
    }

    /// A program: one with a `/` is beside the tool's file, others are looked for in `PATH`.
    fn program(&self, program: &At<String>, faults: &mut Faults) -> String {
        let text = &program.value;
        if text.contains("{{") || text.contains("{%") || text.trim().is_empty() {
            let message = "the program itself can't be a template, nor empty".to_owned();
            self.node.fault(faults, code::BAD_VALUE, &program.span, message, "only its arguments are templates");
        }
        if !text.contains('/') {
            return text.clone();
        }
        let path = clean(&self.root.join("tools").join(text));
        if !path.is_file() {
            let message = format!("no program `{text}` beside the tool's file");
            let help = format!("put it at `{}`, or name a program of `PATH` without a `/`", self.relative(&path));
            self.node.fault(faults, code::FILE, &program.span, message, help);
        } else if !is_executable(&path) {
            let help = format!("`chmod +x {}`", self.relative(&path));
            self.node.fault(faults, code::FILE, &program.span, format!("`{text}` isn't executable"), help);
        }
        show(&path)
    }

    fn http(&self, schema: Option<&Value>, faults: &mut Faults) -> Option<ToolKind> {
        self.must_have("url", "such as `url = \"https://api.example.com/orders/{{ args.order }}\"`", faults);
        let names = Names::of_schema("args", schema);
        let env = self.env(faults);
        let body = self.template("body", &names, faults);
        let headers = self.headers(&names.clone().with("env", known(&env)), faults);
        let url = self.node.text("url")?;
        self.check_template(&url, &names, faults);
        Some(ToolKind::Http {
            method: self.node.text("method").map_or_else(|| "GET".to_owned(), |method| method.value),
            allowed_hosts: self.allowed_hosts(&url, faults),
            url: url.value,
            headers,
            body,
            allow_private: self.node.boolean("allow_private").unwrap_or(false),
            env,
        })
    }

    fn headers(&self, names: &Names, faults: &mut Faults) -> BTreeMap<String, String> {
        let mut headers = BTreeMap::new();
        for (name, value) in self.node.texts_by_name("headers") {
            check_header(&self.node, &name, &value, faults);
            if is_secret_header(&name.value) && !value.value.contains("env.") {
                // A plan is stored: what stands in a tool's file would be stored with it.
                faults.hide(self.node.source, &value.span);
                let message = format!("the header `{}` holds a secret", name.value);
                let help =
                    "take it from the environment: `env = [\"SHOP_TOKEN\"]` and `\"Bearer {{ env.SHOP_TOKEN }}\"`";
                self.node.fault(faults, code::BAD_VALUE, &value.span, message, help);
            }
            self.check_template(&value, names, faults);
            headers.insert(name.value, value.value);
        }
        headers
    }

    /// The hosts that the tool may ask: those it lists, else the one of its URL where no template makes it.
    fn allowed_hosts(&self, url: &At<String>, faults: &mut Faults) -> Vec<String> {
        let listed = self.node.texts("allowed_hosts");
        let Some(rest) = url.value.strip_prefix("https://").or_else(|| url.value.strip_prefix("http://")) else {
            let message = "`url` begins with neither `https://` nor `http://`".to_owned();
            self.node.fault(faults, code::BAD_VALUE, &url.span, message, "write the scheme out, not as a template");
            return Vec::new();
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let is_template = rest.starts_with("{{") || authority.contains(['{', '}']);
        if authority.contains('@') {
            faults.hide(self.node.source, &url.span);
            let message = "`url` holds credentials".to_owned();
            self.node.fault(faults, code::BAD_VALUE, &url.span, message, "send them in a header, from `env`");
        }
        if let Some(hosts) = listed {
            hosts.value.iter().for_each(|host| self.check_host(host, faults));
            return hosts.value.into_iter().map(|host| host.value.to_lowercase()).collect();
        }
        if is_template {
            let message = "`allowed_hosts` is missing: a template makes the host of `url`".to_owned();
            self.node.fault(faults, code::MISSING_KEY, &url.span, message, "list the hosts that may be asked");
            return Vec::new();
        }
        let host = host_of(authority).to_lowercase();
        self.check_host(&At { value: host.clone(), span: url.span.clone() }, faults);
        vec![host]
    }

    fn check_host(&self, host: &At<String>, faults: &mut Faults) {
        let name = host.value.strip_prefix("*.").unwrap_or(&host.value);
        let is_v6 = name.starts_with('[') && name.ends_with(']');
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if name.is_empty() || !(is_v6 || name.bytes().all(good)) {
            let message = format!("`{}` is no host", host.value);
            let help = "expected a name without scheme, port and path: `api.example.com` or `*.example.com`";
            self.node.fault(faults, code::BAD_VALUE, &host.span, message, help);
        }
    }

    fn builtin(&self, schema: Option<&Value>, faults: &mut Faults) -> Option<Builtin> {
        self.must_have(
            "builtin",
            "name it: `search_files`, `read_file`, `now`, `calculate`, `template` or `ask_user`",
            faults,
        );
        let word = self.node.text("builtin")?.value;
        let takes_folders = matches!(word.as_str(), "search_files" | "read_file");
        self.check_builtin_key("folders", &word, takes_folders, faults);
        self.check_builtin_key("template", &word, word == "template", faults);
        if word == "ask_user" {
            self.check_question(faults);
        }
        Some(match word.as_str() {
            "search_files" => Builtin::SearchFiles { folders: self.folders(faults) },
            "read_file" => Builtin::ReadFile { folders: self.folders(faults) },
            "now" => Builtin::Now,
            "calculate" => Builtin::Calculate,
            "ask_user" => Builtin::AskUser,
            _ => Builtin::Template { template: self.template("template", &Names::of_schema("args", schema), faults)? },
        })
    }

    fn check_builtin_key(&self, key: &str, word: &str, takes: bool, faults: &mut Faults) {
        if takes {
            self.must_have(key, "the builtin can't do without it", faults);
        } else if self.node.has(key) {
            let message = format!("the builtin `{word}` has no `{key}`");
            self.node.fault(faults, code::CONFLICT, &self.node.key_span(key), message, "leave it out");
        }
    }

    /// What a question to a person hasn't.
    fn check_question(&self, faults: &mut Faults) {
        let never = [
            ("price", "a question to a person costs nothing"),
            ("timeout", "a person has as long as the limit `expires` says"),
            ("approval", "the question goes to a person anyway"),
        ];
        for (key, why) in never.into_iter().filter(|(key, _)| self.node.has(key)) {
            let message = format!("the builtin `ask_user` has no `{key}`");
            self.node.fault(faults, code::CONFLICT, &self.node.key_span(key), message, format!("leave it out: {why}"));
        }
    }

    fn folders(&self, faults: &mut Faults) -> Vec<String> {
        let folders = self.node.texts("folders").map(|folders| folders.value).unwrap_or_default();
        folders.iter().map(|folder| self.folder(folder, faults)).collect()
    }

    /// A folder, absolute; reports one that isn't there.
    fn folder(&self, folder: &At<String>, faults: &mut Faults) -> String {
        let path = clean(&self.root.join(&folder.value));
        if !path.is_dir() {
            let help = "folders are relative to the project, the folder of `plimsoll.toml`";
            self.node.fault(faults, code::FILE, &folder.span, format!("no folder `{}`", folder.value), help);
        }
        show(&path)
    }

    fn env(&self, faults: &mut Faults) -> Vec<String> {
        let names = self.node.texts("env").map(|names| names.value).unwrap_or_default();
        for name in names.iter().filter(|name| !is_variable(&name.value)) {
            // The text isn't shown: it may be a secret.
            faults.hide(self.node.source, &name.span);
            let message = "`env` holds what is no name of an environment variable".to_owned();
            self.node.fault(faults, code::BAD_NAME, &name.span, message, "list names only, such as `\"SHOP_TOKEN\"`");
        }
        names.into_iter().map(|name| name.value).collect()
    }

    fn template(&self, key: &str, names: &Names, faults: &mut Faults) -> Option<String> {
        let text = self.node.text(key)?;
        self.check_template(&text, names, faults);
        Some(text.value)
    }

    fn check_template(&self, text: &At<String>, names: &Names, faults: &mut Faults) {
        let place = Place { source: self.node.source, span: text.span.clone(), exact: Exact::No };
        template::check(&text.value, &place, names, faults);
    }

    fn relative(&self, path: &Path) -> String {
        crate::spec::files::relative(self.root, path)
    }
}

/// The variables of the environment that a tool may use.
fn known(env: &[String]) -> Shape {
    Shape::Object(env.iter().map(|name| (name.clone(), TEXT)).collect())
}

/// A path as text.
fn show(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The host of an authority, without its port.
fn host_of(authority: &str) -> &str {
    match authority.rfind(']') {
        Some(end) => &authority[..=end],
        None => authority.split(':').next().unwrap_or_default(),
    }
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.is_file()
}
