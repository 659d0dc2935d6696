//! Images and documents that go with an input: on every wire, within their bounds, kept with the run, or refused before a
//! call.

use plimsoll::domain::event::{Event, RunState};
use plimsoll::domain::message::{FILE_BYTES_MAX, FILES_MAX, GivenFile};
use plimsoll::domain::report::Trace;
use plimsoll::runtime::{NewRun, silent};
use plimsoll::sim::Invoice;
use plimsoll::units::{Money, Tokens};

use crate::kill::process::{End, Ship};
use crate::kill::project::{AGENT as PURSER, Project, calm_sea};
use crate::world::{Recipe, Told, World, new_run};

/// A loop with a tool: the files go out with each turn.
const AGENT: &str = r#"
tools = ["look"]

[model]
models = ["PROVIDER"]

[prompt]
system = "Look, then answer."

[context]
tokens = 40_000

[limits]
cost = "$1"
"#;
const LOOK: &str =
    "description = 'Looks'\nkind = 'command'\ncommand = ['echo', 'there it is']\n[input]\ntype = 'object'\n";
const TALK: &str =
    "key = 'k'\n[[reply]]\ntool_calls = [{ name = 'look', arguments = {} }]\n[[reply]]\ntext = 'A cat.'\n";

/// Each wire, with a model that sees images.
const PROVIDERS: &str = r#"
[providers.openai]
wire = "openai-chat"
base_url = "http://{sim}/openai/v1"
key_command = ["printf", "k"]

[providers.responses]
wire = "openai-responses"
base_url = "http://{sim}/responses/v1"
key_command = ["printf", "k"]

[providers.azure]
wire = "azure-openai"
base_url = "http://{sim}/azure"
key_command = ["printf", "k"]
[providers.azure.deployments.eyes]
model = "gpt-6.1-sol"
scope = "global"

[providers.anthropic]
wire = "anthropic"
base_url = "http://{sim}/anthropic/v1"
key_command = ["printf", "k"]

[providers.gemini]
wire = "gemini"
base_url = "http://{sim}"
key_command = ["printf", "k"]
"#;
const PRICES: &str = "[[prices]]\nmodel = 'responses/gpt-5-mini'\ninput = '0.25'\noutput = '2'\nreason = 'test'\n";
const MODELS: [&str; 6] = [
    "openai/gpt-5-mini",
    "responses/gpt-5-mini",
    "azure/eyes",
    "anthropic/claude-haiku-4-5",
    "gemini/gemini-3.8-flash",
    "gemini/gemini-2.5-flash",
];

fn recipe(model: &str) -> Recipe {
    let ceiling = format!("[[models]]\nmodel = '{model}'\ndocument_tokens = 9_000\n");
    Recipe::agent(&AGENT.replace("PROVIDER", model))
        .file("plimsoll.toml", &format!("{PROVIDERS}{PRICES}{ceiling}"))
        .file("tools/look.toml", LOOK)
        .scenario(TALK)
}

/// A picture of so many pixels: its head, and something to tell it by.
fn png(name: &str, width: u32, height: u32) -> GivenFile {
    let head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    let bytes = [&head[..], &width.to_be_bytes(), &height.to_be_bytes(), name.as_bytes()].concat();
    GivenFile::of(name, &bytes).expect("a file")
}

fn pdf() -> GivenFile {
    GivenFile::of("bill.pdf", b"%PDF-1.7 <</Type/Pages>> <</Type/Page>> <</Type/Page>>").expect("a file")
}

fn settled(told: &Told) -> Money {
    told.settlements().map(|settled| settled.bill).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_go_out_with_each_turn_on_every_wire_within_their_bounds() {
    for model in MODELS {
        let world = recipe(model).start_wired();
        let told = world.run_with_files(vec![png("photo.png", 3_000, 2_000), pdf()]).await;
        assert_eq!(told.state(), RunState::Finished, "{model}\n{}", told.show());
        let plain = recipe(model).start_wired();
        plain.run().await;
        let lines = (world.invoice().lines, plain.invoice().lines);
        assert_eq!((lines.0.len(), lines.1.len()), (2, 2), "{model}");
        for ((line, without), call) in lines.0.iter().zip(&lines.1).zip(told.calls()) {
            // The smallest picture here counts 258, and two pages 1,120.
            assert!(line.tokens.prompt >= without.tokens.prompt + 258 + 1_120, "{model}: {line:?}");
            assert!(Tokens(line.tokens.prompt) <= call.bound.tokens, "{model}");
        }
        assert_eq!(settled(&told), world.invoice().total, "{model}");
        world.verify();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trace_and_the_log_tell_what_a_file_is_and_not_its_bytes() {
    let world = recipe(MODELS[0]).start_wired();
    let photo = png("photo.png", 640, 480);
    let told = world.run_with_files(vec![photo.clone()]).await;
    let plan = world.runtime.store().plan(&told.run.plan.hash()).expect("reads").expect("its plan");
    let trace = Trace::of(told.run.id, plan.into(), &told.log, told.log.last().expect("an end").at).expect("a trace");
    let line = &trace.files[0];
    assert_eq!((line.name.as_str(), line.bytes, line.sha256.as_str()), ("photo.png", photo.bytes(), photo.sha256()));
    assert_eq!(line.tokens_max, Tokens(4_082));
    let Some(Event::Created(created)) = told.events().next() else { unreachable!("its beginning") };
    assert_eq!(created.files[0].data(), "", "the log has no bytes");
    let kept = world.runtime.store().file(photo.sha256()).expect("reads").expect("it is kept");
    assert_eq!(created.files[0].with_data(&kept).expect("the same").bytes(), photo.bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_goes_on_later_sends_the_same_bytes() {
    let recipe = Recipe::agent("[model]\nmodels = ['openai/gpt-5-mini']\n[limits]\ncost = '$1'\n");
    let world = recipe.start();
    let files = || vec![png("one.png", 100, 80), png("two.png", 40, 50)];
    let at_once = world.run_with_files(files()).await;
    let new = NewRun { files: files(), ..new_run(Default::default()) };
    let run = world.runtime.create(&new).await.expect("a run");
    let world = world.reopen();
    world.runtime.drive(run, silent()).await.expect("it goes on");
    assert_eq!((at_once.state(), world.told(run).state()), (RunState::Finished, RunState::Finished));
    let lines = world.invoice().lines;
    assert_eq!((lines.len(), &lines[0].body_sha256), (2, &lines[1].body_sha256));
    world.verify();
}

/// Two pages.
const PDF: &str = "%PDF-1.7 <</Type/Pages>> <</Type/Page>> <</Type/Page>>";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_own_files_go_with_every_input_also_when_it_goes_on_later() {
    let agent = "files = ['style.pdf']\n[model]\nmodels = ['anthropic/claude-haiku-4-5']\n[limits]\ncost = '$1'\n";
    let ceiling = "[[models]]\nmodel = 'anthropic/claude-haiku-4-5'\ndocument_tokens = 9_000\n";
    let recipe = Recipe::agent(agent).file("plimsoll.toml", ceiling).file("agents/style.pdf", PDF);
    let world = recipe.start();
    let at_once = world.run_with_files(vec![png("one.png", 100, 80)]).await;
    let new = NewRun { files: vec![png("one.png", 100, 80)], ..new_run(Default::default()) };
    let run = world.runtime.create(&new).await.expect("a run");
    let world = world.reopen();
    world.runtime.drive(run, silent()).await.expect("it goes on");
    assert_eq!((at_once.state(), world.told(run).state()), (RunState::Finished, RunState::Finished));
    let lines = world.invoice().lines;
    assert_eq!((lines.len(), &lines[0].body_sha256), (2, &lines[1].body_sha256));
    let told = world.told(run);
    assert!(told.calls().all(|call| call.bound.tokens > Tokens(9_000)), "{}", told.show());
    let plan = world.runtime.store().plan(&told.run.plan.hash()).expect("reads").expect("its plan");
    assert_eq!(plan.files[0].data(), "", "the plan has no bytes");
    let trace = Trace::of(run, plan.into(), &told.log, told.log.last().expect("an end").at).expect("a trace");
    let files: Vec<(&str, bool)> = trace.files.iter().map(|file| (file.name.as_str(), file.of_agent)).collect();
    assert_eq!(files, [("style.pdf", true), ("one.png", false)]);
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sub_agent_has_its_own_files_also_where_its_caller_was_left() {
    let agent = "agents = ['child']\n[model]\nmodels = ['openai/gpt-5-mini']\n[limits]\ncost = '$1'\n";
    let child = "files = ['style.pdf']\n[model]\nmodels = ['openai/gpt-5']\n[limits]\ncost = '$0.50'\n";
    let scenario = "[[rule]]\nwhen = { model = 'gpt-5-mini', turn = 0 }\ntool_calls = [{ name = 'child', arguments = { input = 'dig' } }]\n\
                    [[reply]]\ntext = 'Done.'\n";
    let ceiling = "[[models]]\nmodel = 'openai/gpt-5'\ndocument_tokens = 9_000\n";
    let recipe = Recipe::agent(agent)
        .file("agents/child.toml", child)
        .file("plimsoll.toml", ceiling)
        .file("style.pdf", PDF)
        .scenario(scenario);
    let world = recipe.start();
    let run = world.runtime.create(&new_run(Default::default())).await.expect("a run");
    let world = world.reopen();
    world.runtime.drive(run, silent()).await.expect("it goes on");
    assert_eq!(world.told(run).state(), RunState::Finished, "{}", world.told(run).show());
    let lines = world.invoice().lines;
    let below: Vec<u64> = lines.iter().filter(|line| line.model == "gpt-5").map(|line| line.tokens.prompt).collect();
    assert!(matches!(below[..], [prompt] if prompt > 1_120), "{lines:?}");
    world.verify();
}

/// Why files can't go to an agent; nothing is stored or asked then.
async fn refused(recipe: &Recipe, files: Vec<GivenFile>) -> String {
    let world: World = recipe.start();
    let new = NewRun { files, ..new_run(Default::default()) };
    let error = world.runtime.run(&new, silent()).await.expect_err("it is refused");
    assert_eq!((world.all().len(), world.invoice().lines.len()), (0, 0));
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_model_takes_or_nobody_can_bound_is_refused_before_a_call() {
    let agent = |models: &str| Recipe::agent(&format!("[model]\nmodels = [{models}]\n[limits]\ncost = '$1'\n"));
    let photo = || vec![png("photo.png", 10, 10)];
    let blind = refused(&agent("'openai/gpt-5-mini', 'groq/openai/gpt-oss-20b'"), photo()).await;
    assert!(blind.contains("`groq/openai/gpt-oss-20b` may be asked, and takes no images"), "{blind}");
    let unknown = refused(&agent("'gemini/gemini-4-argon'"), photo()).await;
    assert!(unknown.contains("nobody knows how many tokens `photo.png`"), "{unknown}");
    let document = refused(&agent("'anthropic/claude-haiku-4-5'"), vec![pdf()]).await;
    assert!(document.contains("`bill.pdf` (application/pdf)"), "{document}");
    let many = refused(&agent("'openai/gpt-5-mini'"), vec![png("a.png", 1, 1); FILES_MAX + 1]).await;
    assert!(many.starts_with("the files can't go to agent `a`: 9 files"), "{many}");
    let large = GivenFile::of("a.gif", &[&b"GIF89a"[..], &vec![0; FILE_BYTES_MAX - 6]].concat()).expect("a file");
    let heavy = refused(&agent("'openai/gpt-5-mini'"), vec![large; 4]).await;
    assert!(heavy.contains("16,777,216 bytes together, more than 12,582,912"), "{heavy}");
    let own = agent("'openai/gpt-5-mini'").amend("agents/a.toml", "[model]", "files = ['style.pdf']\n[model]");
    let own = own
        .file("style.pdf", PDF)
        .file("plimsoll.toml", "[[models]]\nmodel = 'openai/gpt-5-mini'\ndocument_tokens = 9_000\n");
    let many = refused(&own, vec![png("a.png", 1, 1); FILES_MAX]).await;
    assert!(many.contains("9 files"), "those of the agent count: {many}");
    let stated = agent("'gemini/gemini-4-argon'")
        .file("plimsoll.toml", "[[models]]\nmodel = 'gemini/gemini-4-argon'\nimage_tokens = 1_500\n");
    let told = stated.start().run_with_files(photo()).await;
    assert_eq!(told.state(), RunState::Finished, "the project's word is enough: {}", told.show());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_larger_than_the_context_is_refused_by_that_limit() {
    let agent = "[model]\nmodels = ['openai/gpt-5-mini']\n[context]\ntokens = 4_000\n[limits]\ncost = '$1'\n";
    let told = Recipe::agent(agent).start().run_with_files(vec![png("photo.png", 10, 10)]).await;
    assert_eq!((told.state(), told.calls().count()), (RunState::Stopped, 0), "{}", told.show());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_landing_has_the_files_where_they_fit_and_else_their_names() {
    let agent = |room: u32| {
        format!(
            "tools = ['look']\n[model]\nmodels = ['openai/gpt-5-mini']\n[limits]\ncost = '$1'\nsteps = 3\nlanding_tokens = {room}\n"
        )
    };
    let scenario = "[[reply]]\ntool_calls = [{ name = 'look', arguments = {} }]\n[[reply]]\ntext = 'A cat.'\n";
    for (room, fits) in [(8_000, true), (3_000, false)] {
        let world = Recipe::agent(&agent(room)).file("tools/look.toml", LOOK).scenario(scenario).start();
        let told = world.run_with_files(vec![png("photo.png", 900, 900)]).await;
        let landing = told.calls().last().expect("a call").clone();
        assert_eq!(told.state(), RunState::Stopped, "{}", told.show());
        let cut = landing.cuts.iter().any(|cut| cut.what == "file photo.png");
        assert_eq!((landing.bound.tokens > Tokens(4_082), cut), (fits, !fits), "{landing:?}");
        assert!(told.calls().all(|call| call.bound.tokens > Tokens(4_082) || call.cuts == landing.cuts));
        world.verify();
    }
}

#[test]
fn a_process_that_dies_with_a_file_in_flight_sends_it_again_when_it_goes_on() {
    let project = Project::new(&calm_sea("1ms"));
    let photo = project.root().join("photo.png");
    std::fs::write(&photo, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x10").expect("it is written");
    let file = photo.to_string_lossy().into_owned();
    let arguments = ["run", PURSER, "--input", "Weigh, note and stamp.", "--file", &file];
    assert_ne!(Ship::start(project.root(), &arguments, Some("provider.answered:1")).end(), End::Exit(0));
    std::fs::remove_file(&photo).expect("nobody reads it again");
    assert_eq!(Ship::start(project.root(), &["resume", "--all"], None).end(), End::Exit(0));
    let lines = Invoice::read(&project.sim.invoice).expect("an invoice").lines;
    let first: Vec<_> = lines.iter().filter(|line| line.turn == 0).map(|line| &line.body_sha256).collect();
    assert!(first.len() == 2 && first[0] == first[1], "{lines:?}");
}
