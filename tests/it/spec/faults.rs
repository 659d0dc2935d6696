//! How each fault of an agent's or a tool's file is told.

use super::{MODEL, faults};

/// The faults of one agent's file.
fn agent(text: &str) -> String {
    faults(&[("agents/a.toml", text)])
}

/// The faults of one tool's file.
fn tool(text: &str) -> String {
    faults(&[("tools/t.toml", text)])
}

#[test]
fn every_fault_of_a_file_is_told_at_once() {
    let text = r#"
owner = 7
tols = ["lookup"]

[model]
models = []
max_output_tokens = 100
min_output_tokens = 200

[limits]
steps = 0
wall_time = "soon"
cost = "5 cents"

[[stage]]
id = "x"
"#;
    insta::assert_snapshot!(agent(text), @r#"
agents/a.toml:2:9: `owner` can't be a whole number
  2 | owner = 7
    |         ^
  help: expected a text, such as `"…"`

agents/a.toml:3:1: unknown key `tols` at the top level
  3 | tols = ["lookup"]
    | ^^^^
  help: did you mean `tools`?

agents/a.toml:6:10: `models` is empty
  6 | models = []
    |          ^^
  help: expected 1 to 16 texts

agents/a.toml:8:21: `min_output_tokens` is 200, above `max_output_tokens` of 100
  8 | min_output_tokens = 200
    |                     ^^^
  help: at most 100

agents/a.toml:11:9: `steps` is 0
  11 | steps = 0
     |         ^
  help: expected 1 to 1,000,000

agents/a.toml:12:13: `soon` is no length of time, such as `250ms`, `30s`, `5m`, `2h` or `7d`
  12 | wall_time = "soon"
     |             ^^^^^^
  help: expected a length of time as text, such as `"30s"`

agents/a.toml:13:8: `5 cents` is no decimal amount, such as `0.05`
  13 | cost = "5 cents"
     |        ^^^^^^^^^
  help: expected dollars as text, such as `"$0.05"`

agents/a.toml:15:1: `kind` is missing in `[stage]`
  15 | [[stage]]
     | ^^^^^^^^^
  help: add `kind`: what it does: `model` (one call, without tools), `loop` (calls and tools in turn), `tool` (one call of a tool), `map` (the same for each item of a list), `approval` (asks a person) or `agent` (runs another agent)
"#);
}

#[test]
fn a_syntax_error_is_told_alone() {
    insta::assert_snapshot!(agent("owner = \"x\"\n[limits\nsteps = 5\n"), @r#"
agents/a.toml:2:8: unclosed table, expected `]`
  2 | [limits
    |        ^
  help: mend this first: the rest of the file is read after it
"#);
}

#[test]
fn faults_of_an_agent() {
    let cases = [
        ("", "no model table"),
        ("[model]\n", "no model named"),
        ("[model]\nmodels = [\"gpt-5\", \"openai/a\", \"openai/a\"]\npolicy = \"x\"\n", "bad model names"),
        ("[model]\nmodels = [\"openai/a\"]\nextra = { n = 2, top_k = 1 }\n", "an extra that passes the reservation"),
        ("[model]\nmodels = [\"openai/a\"]\ntemperature = 2.5\nseed = 1.5\n", "bad sampling"),
    ];
    let told: Vec<String> = cases.iter().map(|(text, what)| format!("## {what}\n{}", agent(text))).collect();
    insta::assert_snapshot!(told.join("\n\n"), @r#"
## no model table
agents/a.toml:1:1: `model` is missing at the top level
  help: add `[model]`: which models are approved, and how they are asked

## no model named
agents/a.toml:1:1: `[model]` names no model
  1 | [model]
    | ^^^^^^^
  help: add `policy = "…"`, `quality = "…"`, or `models = ["provider/model"]`

## bad model names
agents/a.toml:2:1: `models` and `policy` are both there
  2 | models = ["gpt-5", "openai/a", "openai/a"]
    | ^^^^^^
  help: keep one of them

agents/a.toml:2:11: `gpt-5` is no name of a model
  2 | models = ["gpt-5", "openai/a", "openai/a"]
    |           ^^^^^^^
  help: expected `provider/model`, such as `openai/gpt-5-mini`

agents/a.toml:2:32: the model `openai/a` is named twice
  2 | models = ["gpt-5", "openai/a", "openai/a"]
    |                                ^^^^^^^^^^
  help: name it once

agents/a.toml:3:10: no policy `x`
  3 | policy = "x"
    |          ^^^
  help: `plimsoll.toml` declares no policy: add `[policies.NAME]`, or list `models`

## an extra that passes the reservation
agents/a.toml:3:15: `extra` can't set `n`
  3 | extra = { n = 2, top_k = 1 }
    |               ^
  help: more than one answer would pass the reservation

## bad sampling
agents/a.toml:3:15: `temperature` is out of range
  3 | temperature = 2.5
    |               ^^^
  help: expected a number from 0 to 2

agents/a.toml:4:8: `seed` can't be a number with a point
  4 | seed = 1.5
    |        ^^^
  help: expected a whole number, such as `12`
"#);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of files and what is told of each")]
fn faults_of_sizes_and_texts() {
    let cases = [
        ("[context]\ntokens = 1000\nhistory = 900\ntool_output = 200\n", "pots above the context"),
        (
            "[context]\nsummary_model = \"openai/gpt-5-nano\"\ndocuments = 32000\n[documents]\nfrom = [\"../x.md\", \"**\"]\n",
            "documents from elsewhere, and no summary",
        ),
        ("[documents]\nfrom = \"stages.a\"\n", "documents of a stage"),
        ("[limits]\nlanding_output_tokens = 5000\nlanding_tokens = 40000\n", "a landing above the request"),
        ("[limits]\ncost = \"$0.01\"\nexpected_cost = \"$0.02\"\n", "an expected cost above the cost"),
        ("[prompt]\nsystem = \"{{ input\"\n", "a broken template"),
        ("[prompt]\nuser = \"{{ inptu }}\"\nsystem_file = \"nowhere.md\"\n", "an unknown variable"),
        (
            "[prompt]\nuser = \"{{ input.tikcet }}\"\n[input]\ntype = \"object\"\nproperties.ticket = { type = \"string\" }\n",
            "an undeclared field",
        ),
        ("[input]\ntype = \"objekt\"\n", "a bad schema"),
        ("[output]\ntype = \"object\"\nproperties.a = { type = \"string\", minLength = -1 }\n", "a bad schema inside"),
        ("[retry]\nbackoff = \"5s..1s\"\nattempts = 99\n", "bad retries"),
        ("[limits]\ndeadline = \"tomorrow\"\n", "a bad point in time"),
    ];
    let told = cases.iter().map(|(text, what)| format!("## {what}\n{}", agent(&format!("{MODEL}{text}"))));
    insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n\n"), @r#"
## pots above the context
agents/a.toml:6:15: the pots take 1,100 of 1,000 tokens and leave nothing for instructions
  6 | tool_output = 200
    |               ^^^
  help: raise `tokens`, or make the pots smaller

## documents from elsewhere, and no summary
agents/a.toml:4:17: `summary_model` is set, and nothing is summed up
  4 | summary_model = "openai/gpt-5-nano"
    |                 ^^^^^^^^^^^^^^^^^^^
  help: write `overflow = "summarise"`, or take it out

agents/a.toml:5:13: the pots take 32,000 of 32,000 tokens and leave nothing for instructions
  5 | documents = 32000
    |             ^^^^^
  help: raise `tokens`, or make the pots smaller

agents/a.toml:7:9: `../x.md` is no pattern of files
  7 | from = ["../x.md", "**"]
    |         ^^^^^^^^^
  help: patterns stay within the project's folder

agents/a.toml:7:20: `**` is no pattern of files
  7 | from = ["../x.md", "**"]
    |                    ^^^^
  help: end it with files, such as `*.md`

## documents of a stage
agents/a.toml:4:8: `stages.a` names no texts of the input
  4 | from = "stages.a"
    |        ^^^^^^^^^^
  help: write an expression such as `input.documents`, or a list of patterns of files

agents/a.toml:4:9: the expression uses `stages`, which doesn't exist here
  4 | from = "stages.a"
    |         ^^^^^^^^
  help: there is only `input`

## a landing above the request
agents/a.toml:4:25: `landing_output_tokens` is 5,000, above `max_output_tokens` of 2,048
  4 | landing_output_tokens = 5000
    |                         ^^^^
  help: lower it, or raise the other

agents/a.toml:5:18: `landing_tokens` is 40,000, above the context's `tokens` of 32,000
  5 | landing_tokens = 40000
    |                  ^^^^^
  help: lower it, or raise the other

## an expected cost above the cost
agents/a.toml:5:17: `expected_cost` is $0.02, above the limit `cost` of $0.01
  5 | expected_cost = "$0.02"
    |                 ^^^^^^^
  help: at most $0.01, set at agents/a.toml:4

## a broken template
agents/a.toml:4:10: bad template: unexpected end of input, expected end of variable block
  4 | system = "{{ input"
    |          ^^^^^^^^^^
  help: templates are minijinja: `{{ value }}`, `{% if … %} … {% endif %}`; a literal brace is `{{ '{{' }}`

## an unknown variable
agents/a.toml:4:12: the template uses `inptu`, which doesn't exist here
  4 | user = "{{ inptu }}"
    |            ^^^^^
  help: did you mean `input`?

agents/a.toml:5:15: no file `nowhere.md`
  5 | system_file = "nowhere.md"
    |               ^^^^^^^^^^^^
  help: files are relative to the project, or else to `agents/`

## an undeclared field
agents/a.toml:4:12: the template uses `input.tikcet`, which isn't declared
  4 | user = "{{ input.tikcet }}"
    |            ^^^^^^^^^^^^
  help: did you mean `input.ticket`?

## a bad schema
agents/a.toml:4:8: `objekt` is no type of a JSON Schema
  4 | type = "objekt"
    |        ^^^^^^^^
  help: did you mean `object`?

## a bad schema inside
agents/a.toml:5:47: `[output]` is no JSON Schema: this is less than the minimum of 0
  5 | properties.a = { type = "string", minLength = -1 }
    |                                               ^^
  help: a schema has a `type`; one of an object holds a schema for each of its `properties`, and lists under `required` those that must be there

## bad retries
agents/a.toml:4:11: `backoff` goes from 5s to 1s
  4 | backoff = "5s..1s"
    |           ^^^^^^^^
  help: expected a range up to 1h

agents/a.toml:5:12: `attempts` is 99
  5 | attempts = 99
    |            ^^
  help: expected 1 to 20

## a bad point in time
agents/a.toml:4:12: `tomorrow` is no point in time
  4 | deadline = "tomorrow"
    |            ^^^^^^^^^^
  help: expected a date and time with an offset, such as `2026-12-31T18:00:00Z`
"#);
}

#[test]
fn faults_of_a_prompt_file_point_into_it() {
    let files = [
        ("agents/a.toml", "[model]\nmodels = [\"openai/a\"]\n[prompt]\nsystem_file = \"p.md\"\n"),
        ("agents/p.md", "Good day.\n{% if input %}\nBye {{ inputs }}.\n"),
    ];
    let first = faults(&files);
    let second = faults(&[files[0], ("agents/p.md", "Good day.\nBye {{ inputs }}.\n")]);
    insta::assert_snapshot!(format!("{first}\n\n{second}"), @r#"
agents/p.md:3:17: bad template: unexpected end of input, expected end of block
  3 | Bye {{ inputs }}.
    |                 ^
  help: templates are minijinja: `{{ value }}`, `{% if … %} … {% endif %}`; a literal brace is `{{ '{{' }}`

agents/p.md:2:8: the template uses `inputs`, which doesn't exist here
  2 | Bye {{ inputs }}.
    |        ^^^^^^
  help: did you mean `input`?
"#);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of files and what is told of each")]
fn faults_of_a_tool() {
    let input = "[input]\ntype = \"object\"\nproperties.order = { type = \"string\" }\n";
    let cases = [
        ("kind = \"comand\"\n".to_owned(), "an unknown kind"),
        ("kind = \"mcp\"\napproval = \"sometimes\"\n".to_owned(), "what comes later"),
        ("kind = \"command\"\nurl = \"x\"\n".to_owned(), "a command without one"),
        (
            format!(
                "kind = \"command\"\ndescription = \"d\"\ncommand = [\"./nothing\", \"{{{{ args.oder }}}}\"]\nenv = [\"A B\"]\n{input}"
            ),
            "a program that isn't there",
        ),
        (
            format!(
                "kind = \"http\"\ndescription = \"d\"\nurl = \"https://{{{{ args.order }}}}.example.com/\"\nheaders = {{ \"X Y\" = \"{{{{ env.TOKEN }}}}\" }}\n{input}"
            ),
            "a host that a template makes",
        ),
        (
            format!(
                "kind = \"http\"\ndescription = \"d\"\nurl = \"ftp://example.com/\"\nallowed_hosts = [\"https://a\"]\n{input}"
            ),
            "a scheme that isn't HTTP",
        ),
        ("kind = \"builtin\"\nbuiltin = \"search_files\"\n".to_owned(), "a search without folders"),
        ("kind = \"builtin\"\nbuiltin = \"now\"\nfolders = [\"nowhere\"]\n".to_owned(), "folders without a search"),
        (
            "kind = \"builtin\"\nbuiltin = \"read_file\"\nfolders = [\"nowhere\"]\n[input]\ntype = \"string\"\n"
                .to_owned(),
            "no folder",
        ),
    ];
    let told: Vec<String> = cases.iter().map(|(text, what)| format!("## {what}\n{}", tool(text))).collect();
    insta::assert_snapshot!(told.join("\n\n"), @r#"
## an unknown kind
tools/t.toml:1:8: `comand` is no value of `kind`
  1 | kind = "comand"
    |        ^^^^^^^^
  help: did you mean `command`?

## what comes later
tools/t.toml:1:8: `kind = "mcp"` is not supported by this version
  1 | kind = "mcp"
    |        ^^^^^
  help: supported: `command`, `http`, `builtin`

tools/t.toml:2:12: `sometimes` is no value of `approval`
  2 | approval = "sometimes"
    |            ^^^^^^^^^^^
  help: expected one of `never`, `always`

## a command without one
tools/t.toml:1:1: the tool has no `command`
  1 | kind = "command"
    | ^
  help: name the program and its arguments: `command = ["./program", "{{ args.name }}"]`

tools/t.toml:1:1: the tool has no `description`
  1 | kind = "command"
    | ^
  help: the model reads what the tool does

tools/t.toml:1:1: the tool has no `input`
  1 | kind = "command"
    | ^
  help: write the JSON Schema of the arguments

tools/t.toml:2:1: a tool of kind `command` has no `url`
  2 | url = "x"
    | ^^^
  help: `url` is a key of kind `http`

## a program that isn't there
tools/t.toml:3:12: no program `./nothing` beside the tool's file
  3 | command = ["./nothing", "{{ args.oder }}"]
    |            ^^^^^^^^^^^
  help: put it at `tools/nothing`, or name a program of `PATH` without a `/`

tools/t.toml:3:29: the template uses `args.oder`, which isn't declared
  3 | command = ["./nothing", "{{ args.oder }}"]
    |                             ^^^^^^^^^
  help: did you mean `args.order`?

tools/t.toml:4:8: `env` holds what is no name of an environment variable
  4 | env = [*****]
    |        ^^^^^
  help: list names only, such as `"SHOP_TOKEN"`

## a host that a template makes
tools/t.toml:3:7: `allowed_hosts` is missing: a template makes the host of `url`
  3 | url = "https://{{ args.order }}.example.com/"
    |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  help: list the hosts that may be asked

tools/t.toml:4:13: `X Y` is no name of a header
  4 | headers = { "X Y" = "{{ env.TOKEN }}" }
    |             ^^^^^
  help: expected letters, digits and `-`

tools/t.toml:4:25: the template uses `env.TOKEN`, which isn't declared
  4 | headers = { "X Y" = "{{ env.TOKEN }}" }
    |                         ^^^^^^^^^
  help: list the variable in `env`

## a scheme that isn't HTTP
tools/t.toml:3:7: `url` begins with neither `https://` nor `http://`
  3 | url = "ftp://example.com/"
    |       ^^^^^^^^^^^^^^^^^^^^
  help: write the scheme out, not as a template

## a search without folders
tools/t.toml:1:1: the tool has no `folders`
  1 | kind = "builtin"
    | ^
  help: the builtin can't do without it

## folders without a search
tools/t.toml:3:1: the builtin `now` has no `folders`
  3 | folders = ["nowhere"]
    | ^^^^^^^
  help: leave it out

## no folder
tools/t.toml:3:12: no folder `nowhere`
  3 | folders = ["nowhere"]
    |            ^^^^^^^^^
  help: folders are relative to the project, the folder of `plimsoll.toml`

tools/t.toml:4:1: `[input]` doesn't describe an object
  4 | [input]
    | ^^^^^^^
  help: write `type = "object"`
"#);
}

#[test]
fn files_of_an_agent_are_read_when_it_is_checked() {
    let large = "%PDF-1.7".to_owned() + &*" ".repeat(plimsoll::domain::message::FILE_BYTES_MAX);
    let text = r#"
files = ["gone.png", "notes.txt", "large.pdf", "style.pdf", "style.pdf"]

[model]
models = ["openai/gpt-5-mini"]
"#;
    let files = [
        ("agents/a.toml", text),
        ("notes.txt", "plain text"),
        ("agents/large.pdf", large.as_str()),
        ("style.pdf", "%PDF-1.7"),
    ];
    insta::assert_snapshot!(faults(&files), @r#"
agents/a.toml:2:10: no file `gone.png`
  2 | files = ["gone.png", "notes.txt", "large.pdf", "style.pdf", "style.pdf"]
    |          ^^^^^^^^^^
  help: files are relative to the project, or else to `agents/`

agents/a.toml:2:22: `notes.txt` is neither an image nor a document that models take; files are PNG, JPEG, GIF, WebP and PDF
  2 | files = ["gone.png", "notes.txt", "large.pdf", "style.pdf", "style.pdf"]
    |                      ^^^^^^^^^^^
  help: text goes into the input or the prompt, or into `[documents]` of the agent's file

agents/a.toml:2:35: `large.pdf` has more than 4,194,304 bytes; make it smaller
  2 | files = ["gone.png", "notes.txt", "large.pdf", "style.pdf", "style.pdf"]
    |                                   ^^^^^^^^^^^
  help: models scale large images down anyway

agents/a.toml:2:48: `openai/gpt-5-mini` may be asked, and nobody knows how many tokens `style.pdf` (application/pdf) counts there
  2 | files = ["gone.png", "notes.txt", "large.pdf", "style.pdf", "style.pdf"]
    |                                                ^^^^^^^^^^^
  help: say the most that one can count as `document_tokens` of `openai/gpt-5-mini` under `[[models]]`, or name other models

agents/a.toml:2:61: the file `style.pdf` is named twice
  2 | files = ["gone.png", "notes.txt", "large.pdf", "style.pdf", "style.pdf"]
    |                                                             ^^^^^^^^^^^
  help: name it once

agents/a.toml:2:61: `openai/gpt-5-mini` may be asked, and nobody knows how many tokens `style.pdf` (application/pdf) counts there
  2 | files = ["gone.png", "notes.txt", "large.pdf", "style.pdf", "style.pdf"]
    |                                                             ^^^^^^^^^^^
  help: say the most that one can count as `document_tokens` of `openai/gpt-5-mini` under `[[models]]`, or name other models
"#);
    let small = "files = ['style.pdf']\n[context]\ntokens = 4_000\n[model]\nmodels = ['openai/gpt-5-mini']\n";
    let models = "[[models]]\nmodel = 'openai/gpt-5-mini'\ndocument_tokens = 5_000\n";
    insta::assert_snapshot!(
        faults(&[("agents/a.toml", small), ("style.pdf", "%PDF-1.7"), ("plimsoll.toml", models)]),
        @r#"
agents/a.toml:1:9: the files may count 5,000 tokens, and `context.tokens` is 4,000
  1 | files = ['style.pdf']
    |         ^^^^^^^^^^^^^
  help: raise `tokens` under `[context]`, or take files out: they are never cut
"#
    );
}

#[test]
fn a_providers_own_search_has_a_maximum_and_a_wire_that_knows_one() {
    let agent = |model: &str| format!("[model]\nmodels = ['{model}']\nweb_search = {{}}\n");
    insta::assert_snapshot!(faults(&[("agents/a.toml", &agent("openai/gpt-5"))]), @r#"
agents/a.toml:3:14: `max_uses` is missing in `[model.web_search]`
  3 | web_search = {}
    |              ^^
  help: add `max_uses`: the most searches of one call. Each may be charged the model's whole window again, and so much is set aside
"#);
    let chat = "[model]\nmodels = ['openai/gpt-5']\nextra = { tools = [{ type = 'code_interpreter' }] }\nweb_search = { max_uses = 2 }\n";
    let told = faults(&[("agents/a.toml", chat)]);
    for word in [
        "`extra` can't set `tools`",
        "of a provider's own there is `web_search`",
        "`openai/gpt-5` has no search of its provider's own whose cost is bounded here",
    ] {
        assert!(told.contains(word), "{told}");
    }
}
