//! The keys of `tools/*.toml`.

use super::{Kind, Section, TIME_MAX, optional, required};
use crate::domain::builtin;
use crate::units::Millis;

/// `tools/*.toml`.
pub(crate) static TOOL: Section = Section {
    doc: "A tool that agents may name",
    fields: &[
        optional("description", Kind::Text, "What the tool does, for the model; builtins have one of their own"),
        required(
            "kind",
            Kind::Choice { now: &["command", "http", "builtin"], later: &["mcp"] },
            "How it is called: `command`, `http` or `builtin`",
        ),
        optional("input", Kind::JsonSchema, "JSON Schema of the arguments: an object"),
        optional(
            "timeout",
            Kind::Duration { min: Millis(1), max: TIME_MAX },
            "Time of one call; the agent's `tool_call_time` by default, and never above it",
        ),
        optional(
            "output_bytes",
            Kind::Count { min: 1, max: 64 * 1024 * 1024 },
            "Bytes that one call may give; the agent's `output_bytes` by default, and never above it",
        ),
        optional(
            "idempotent",
            Kind::Boolean,
            "True where calling again loses nothing; default true for builtins, else false",
        ),
        optional("price", Kind::Money, "Dollars of one call; $0 by default"),
        optional(
            "approval",
            Kind::Choice { now: &["never", "always"], later: &[] },
            "Whether a person must approve each call: `never` (the default) or `always`",
        ),
        optional(
            "command",
            Kind::Texts { min: 1, max: 256 },
            "Program and arguments, each a template over `args`; never a shell. A program with a `/` is relative to this file",
        ),
        optional(
            "directory",
            Kind::Text,
            "Working directory of the command, relative to the project; the project by default",
        ),
        optional("env", Kind::Texts { min: 0, max: 64 }, "Names of environment variables that the tool may use"),
        optional("stdin", Kind::AnyText, "Template of the command's standard input"),
        optional("url", Kind::Text, "Template of the URL"),
        optional(
            "method",
            Kind::Choice { now: &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"], later: &[] },
            "HTTP method; `GET` by default",
        ),
        optional(
            "headers",
            Kind::TextsByName,
            "Headers; values are templates over `args`, and over `env` for variables that `env` lists",
        ),
        optional(
            "body",
            Kind::AnyText,
            "Template of the body; by default the arguments as JSON for POST, PUT and PATCH",
        ),
        optional(
            "allowed_hosts",
            Kind::Texts { min: 1, max: 64 },
            "Hosts that may be asked: `api.example.com` or `*.example.com`; by default the URL's",
        ),
        optional(
            "allow_private",
            Kind::Boolean,
            "True to allow private, loopback and link-local addresses; false by default",
        ),
        optional(
            "builtin",
            Kind::Choice { now: &builtin::NAMES, later: &[] },
            "Which builtin: `search_files`, `read_file`, `now`, `calculate`, `template` or `ask_user`",
        ),
        optional(
            "folders",
            Kind::Texts { min: 1, max: 64 },
            "Folders that the builtin may read, relative to the project",
        ),
        optional("template", Kind::AnyText, "The template over `args` that the builtin `template` answers with"),
    ],
};
