//! Every link of the chain of those who must agree to a step: the stage that makes it, its run, the stage that called that
//! run, the run above it, and so on up to the root. The same limit is put at each of them in turn, and the deepest agent
//! works until it is stopped (promise 14).

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll::clock::Clock;
use plimsoll::domain::event::{CallRefusal, Event, RunState, Spent, StageEnd, StageEnded};
use plimsoll::domain::limits::{Declared, Refusal};
use plimsoll::runtime::silent;
use plimsoll::units::{Millis, Timestamp, Tokens};

use super::children;
use crate::world::{Recipe, Told, World};

/// A link: the file that declares its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Root,
    RootStage,
    Middle,
    MiddleStage,
    Child,
    ChildStage,
}

const LINKS: [Link; 6] = [Link::Root, Link::RootStage, Link::Middle, Link::MiddleStage, Link::Child, Link::ChildStage];

impl Link {
    const fn file(self) -> &'static str {
        match self {
            Self::Root | Self::RootStage => "agents/a.toml",
            Self::Middle | Self::MiddleStage => "agents/middle.toml",
            Self::Child | Self::ChildStage => "agents/child.toml",
        }
    }

    const fn is_stage(self) -> bool {
        matches!(self, Self::RootStage | Self::MiddleStage | Self::ChildStage)
    }

    /// The level of its run.
    const fn level(self) -> usize {
        match self {
            Self::Root | Self::RootStage => 0,
            Self::Middle | Self::MiddleStage => 1,
            Self::Child | Self::ChildStage => 2,
        }
    }

    const fn stage(self) -> Option<&'static str> {
        match self {
            Self::RootStage => Some("order"),
            Self::MiddleStage => Some("hand"),
            Self::ChildStage => Some("dig"),
            Self::Root | Self::Middle | Self::Child => None,
        }
    }
}

/// What is told by what a run came to.
type Count<Of> = fn(&Spent) -> Of;

/// No run of these takes as long.
const HANGS: Duration = Duration::from_secs(20);

/// An agent of one stage; `LIMITS` and `STAGE_LIMITS` stand where its own and its stage's go.
fn agent(stage: &str) -> String {
    format!(
        "description = 'a'\n[model]\nmodels = ['openai/gpt-5-mini']\nmax_output_tokens = 100\n[prompt]\nuser = 'help'\n[input]\ntype = 'string'\n\
         [retry]\nbackoff = '1ms..2ms'\n[limits]\nrepeats = 100\nlanding_tokens = 300\nlanding_output_tokens = 100\n# LIMITS\n\n[[stage]]\n{stage}# STAGE_LIMITS\n"
    )
}

const LOOK: &str = "description = 'Looks'\nkind = 'builtin'\nbuiltin = 'template'\ntemplate = 'seen {{ args.n }}'\nidempotent = true\n\
    [input]\ntype = 'object'\nproperties.n = { type = 'integer' }\n";
/// It digs for ever, and answers only where it can't.
const DIGS: &str = "[defaults]\noutput_tokens = 60\n[[rule]]\nwhen = { tools = false }\ntext = 'all that I know'\n\
    [[rule]]\nwhen = { contains = 'not called: limit' }\ntext = 'enough'\n\
    [[reply]]\nrepeat = 'forever'\nloop_tool = '*'\narguments = { n = 1 }\n";

fn digging() -> Recipe {
    Recipe::agent(&agent("id = 'order'\nkind = 'agent'\nagent = 'middle'\ninput = '{{ input }}'\n"))
        .file("agents/middle.toml", &agent("id = 'hand'\nkind = 'agent'\nagent = 'child'\ninput = '{{ input }}'\n"))
        .file("agents/child.toml", &agent("id = 'dig'\nkind = 'loop'\ntools = ['look']\n"))
        .file("tools/look.toml", LOOK)
        .scenario(DIGS)
}

/// The same with a limit at this link.
fn limited(recipe: Recipe, link: Link, limit: &str) -> Recipe {
    if link.is_stage() {
        return recipe.amend(link.file(), "# STAGE_LIMITS\n", &format!("limits = {{ {limit} }}\n"));
    }
    recipe.amend(link.file(), "# LIMITS\n", &format!("{limit}\n"))
}

/// The refusal names the limit, its value, and the line where this link declares it.
fn assert_names(refusal: &Refusal, world: &World, link: Link, (key, value): (&str, &str)) {
    assert_eq!((refusal.limit.name(), refusal.value.as_str()), (key, value), "{link:?} {key}: {refusal}");
    let text = std::fs::read_to_string(world.folder.path().join(link.file())).expect("a file");
    let start = if link.is_stage() { format!("limits = {{ {key} = ") } else { format!("{key} = ") };
    let at = text.lines().position(|line| line.starts_with(&start)).expect("a line");
    let Declared::At { file, line } = &refusal.declared else { panic!("{link:?}: {refusal}") };
    assert_eq!((file.as_str(), *line as usize), (link.file(), at + 1), "{link:?}: {refusal}");
    if let Some(stage) = link.stage() {
        assert!(refusal.to_string().contains(&format!("stage {stage}")), "{link:?}: {refusal}");
    }
}

/// Runs of each level, the root first.
fn levels(world: &World, root: Told) -> Vec<Told> {
    let mut all = vec![root];
    while let Some(below) = all.last().and_then(|last| children(world, last).pop()) {
        all.push(below);
    }
    all
}

/// What counts for the limit: of a stage that calls an agent, that agent's run and what is below it.
fn counted(link: Link, levels: &[Told]) -> Spent {
    let level = link.level() + usize::from(matches!(link, Link::RootStage | Link::MiddleStage));
    levels[level].run.spent()
}

/// The run is stopped by this limit, wherever it stands; all below are stopped by it too, and the root lands.
async fn stopped_by(recipe: &Recipe, link: Link, limit: (&str, &str)) -> Vec<Told> {
    let world = recipe.start();
    // (pitfall 14) Whoever is stopped below tells its parent, and nobody waits for it.
    let root = tokio::time::timeout(HANGS, world.run()).await;
    let root = root.unwrap_or_else(|_| panic!("it hangs: {link:?} {limit:?}"));
    let levels = levels(&world, root);
    assert_eq!(levels.len(), 3, "{link:?} {limit:?}: {}", levels[0].show());
    for (level, told) in levels.iter().enumerate() {
        assert_eq!(told.state(), RunState::Stopped, "{link:?} {limit:?} at level {level}: {}", told.show());
        assert_names(told.refusal(), &world, link, limit);
    }
    assert_eq!(levels[0].ended().output, Some("all that I know".into()), "{link:?}: {}", levels[0].show());
    if let Some(stage) = link.stage() {
        let over = stage_over(&levels[link.level()], stage);
        assert_eq!(over.end, StageEnd::Stopped, "{link:?}");
        assert_names(over.refusal.as_ref().expect("a refusal"), &world, link, limit);
    }
    let (spent, invoice) = (levels[0].run.spent(), world.invoice().total);
    assert!(spent.settled == invoice || (!spent.unknown.is_zero() && spent.settled > invoice), "{link:?}: {spent:?}");
    world.verify();
    levels
}

fn stage_over<'a>(told: &'a Told, stage: &str) -> &'a StageEnded {
    let over = |event: &'a Event| if let Event::StageEnded(over) = event { Some(over) } else { None };
    told.events().filter_map(over).find(|over| over.place.to_string() == stage).expect("the stage is over")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_hold_at_every_link() {
    let used: [(&str, Count<u32>); 3] = [
        ("steps", |spent| spent.steps),
        ("model_calls", |spent| spent.model_calls),
        ("attempts", |spent| spent.attempts),
    ];
    for (key, used) in used {
        for link in LINKS {
            // (pitfall 4) One counter for three levels: nobody begins anew.
            let levels = stopped_by(&limited(digging(), link, &format!("{key} = 4")), link, (key, "4")).await;
            assert_eq!(used(&counted(link, &levels)), 4, "all of it is used, and no more: {link:?} {key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_limits_hold_at_every_link() {
    let used: [(&str, u64, Count<Tokens>); 3] = [
        ("tokens", 900, |spent| spent.input.plus(spent.output)),
        ("input_tokens", 700, |spent| spent.input),
        ("output_tokens", 240, |spent| spent.output),
    ];
    for (key, limit, used) in used {
        for link in LINKS {
            let recipe = limited(digging(), link, &format!("{key} = {limit}"));
            let levels = stopped_by(&recipe, link, (key, &Tokens(limit).to_string())).await;
            let spent = counted(link, &levels);
            assert!(used(&spent) <= Tokens(limit), "{link:?} {key}: {spent:?}");
            assert!(spent.model_calls >= 2, "it had room for some: {link:?} {key}: {spent:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caps_hold_at_every_link() {
    for link in LINKS {
        let recipe = limited(digging(), link, "cost = \"$0.0007\"");
        let levels = stopped_by(&recipe, link, ("cost", "$0.0007")).await;
        let spent = counted(link, &levels);
        assert!(spent.settled.pico() <= 700_000_000, "{link:?}: {spent:?}");
        assert!(spent.model_calls >= 2, "it had room for some: {link:?}: {spent:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_every_link_ends_what_is_below() {
    let slow = DIGS.replace("loop_tool", "latency = '20s'\nloop_tool");
    for link in LINKS {
        let recipe = limited(digging().scenario(&slow), link, "wall_time = \"500ms\"");
        let began = Instant::now();
        let levels = stopped_by(&recipe, link, ("wall_time", "500ms")).await;
        assert!(began.elapsed() < Duration::from_secs(8), "{link:?}: it took {:?}", began.elapsed());
        // The root keeps a fifth of its time for its landing.
        let most = if link == Link::Root { 400 } else { 500 };
        let limits: Vec<u64> = levels[2].reservations().map(|reserved| reserved.time_limit.0).collect();
        assert!(!limits.is_empty() && limits.iter().all(|limit| *limit <= most), "{link:?}: {limits:?}");
    }
}

/// The limit by which a call of its model was refused.
fn refused_call(told: &Told) -> &Refusal {
    let refused =
        told.events().find_map(|event| if let Event::CallRefused(refused) = event { Some(&refused.why) } else { None });
    let Some(CallRefusal::Limit { refusal }) = refused else { panic!("{}", told.show()) };
    refusal
}

/// The run goes on without the call that was refused: the model was told by which limit, and where it is declared.
async fn told_of(recipe: &Recipe, link: Link, limit: (&str, &str)) -> Vec<Told> {
    let world = recipe.start();
    let root = tokio::time::timeout(HANGS, world.run()).await;
    let root = root.unwrap_or_else(|_| panic!("it hangs: {link:?} {limit:?}"));
    let levels = levels(&world, root);
    assert!(levels.iter().all(|told| told.state() == RunState::Finished), "{link:?}: {}", levels[0].show());
    let told = levels.last().expect("a child");
    assert_names(refused_call(told), &world, link, limit);
    world.verify();
    levels
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_any_link_refuses_is_told_to_the_model() {
    for link in LINKS {
        let recipe = limited(digging(), link, "tool_calls = 3");
        let levels = told_of(&recipe, link, ("tool_calls", "3")).await;
        assert_eq!(counted(link, &levels).tool_calls, 3, "{link:?}");
    }
    // Whoever calls the same too often is the run that calls, or its stage: nobody above counts it.
    for link in [Link::Child, Link::ChildStage] {
        let low = digging().amend("agents/child.toml", "repeats = 100\n", "");
        let recipe = limited(low, link, "repeats = 2");
        let levels = told_of(&recipe, link, ("repeats", "2")).await;
        assert_eq!(levels[2].run.spent().tool_calls, 2, "{link:?}");
    }
}

/// Each agent calls the one below as a tool of its loop, so that somebody is told of a call that is refused.
fn calling() -> Recipe {
    let calls = |stage: &str, below: &str| {
        agent(&format!("id = '{stage}'\nkind = 'loop'\nagents = ['{below}']\n"))
            .replace("user = 'help'", &format!("user = 'for {below}'"))
    };
    let called = |text: &str| {
        text.replace("type = 'string'\n", "type = 'object'\nrequired = ['n']\nproperties.n = { type = 'integer' }\n")
    };
    let child = agent("id = 'dig'\nkind = 'model'\n").replace("user = 'help'", "user = 'for nobody'");
    Recipe::agent(&calls("order", "middle"))
        .file("agents/middle.toml", &called(&calls("hand", "child")))
        .file("agents/child.toml", &called(&child))
}

/// Who is told of a refusal has enough, and so has who is told of that; the agent whose prompt says this answers at once.
fn calls(at_once: &str) -> String {
    format!(
        "[[rule]]\nwhen = {{ contains = 'not called: limit' }}\ntext = 'enough'\n[[rule]]\nwhen = {{ contains = 'enough' }}\n\
         text = 'enough'\n[[rule]]\nwhen = {{ contains = '{at_once}' }}\ntext = 'done'\n\
         [[reply]]\nrepeat = 'forever'\nloop_tool = '*'\narguments = {{ n = 1 }}\n"
    )
}

/// All finish, though the run of this level was told that a sub-agent is not begun.
async fn not_begun(world: &World, level: usize, link: Link, limit: (&str, &str)) -> Vec<Told> {
    let root = tokio::time::timeout(HANGS, world.run()).await;
    let root = root.unwrap_or_else(|_| panic!("it hangs: {link:?} {limit:?}"));
    let levels = levels(world, root);
    assert!(levels.iter().all(|told| told.state() == RunState::Finished), "{link:?}: {}", levels[0].show());
    assert_names(refused_call(&levels[level]), world, link, limit);
    world.verify();
    levels
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sub_agent_too_many_is_refused_by_who_begins_it() {
    for link in [Link::Root, Link::RootStage, Link::Middle, Link::MiddleStage] {
        let at_once = if link.level() == 0 { "for child" } else { "for nobody" };
        let recipe = limited(calling().scenario(&calls(at_once)), link, "children = 2");
        let levels = not_begun(&recipe.start(), link.level(), link, ("children", "2")).await;
        let began = levels[link.level()].events().filter(|event| matches!(event, Event::ChildBegan(_)));
        assert_eq!(began.count(), 2, "{link:?}");
    }
}

/// A stage has no depth of its own. No file passes `check` whose agents are nested deeper than they may; the gate holds it
/// all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sub_agent_too_deep_is_refused_by_all_above() {
    for link in [Link::Root, Link::Middle] {
        let fits = 2 - link.level();
        let recipe = limited(calling().scenario(&calls("for nobody")), link, &format!("depth = {fits}"));
        let world = recipe.start();
        let root = world.run().await;
        assert_eq!(levels(&world, root).len(), 3, "{link:?}: as deep as it may");
        let world = recipe.start_as(&Clock::system(), |plan| {
            if link == Link::Root {
                plan.limits.depth -= 1;
            } else {
                plan.agents.values_mut().for_each(|middle| Arc::make_mut(middle).limits.depth -= 1);
            }
        });
        let levels = not_begun(&world, 1, link, ("depth", if link == Link::Root { "1" } else { "0" })).await;
        assert_eq!(levels.len(), 2, "{link:?}");
    }
}

/// The question of an agent at the bottom isn't open for ever: its own limit ends the wait of the whole tree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_from_below_expires_by_who_asks() {
    for link in [Link::Child, Link::ChildStage] {
        let clock = Clock::virtual_at(Timestamp(1_795_435_200_000));
        let asks = agent("id = 'dig'\nkind = 'approval'\nask = 'Deeper?'\n");
        let recipe = limited(digging().file("agents/child.toml", &asks), link, "expires = \"2h\"");
        let world = recipe.start_at(&clock);
        let waits = world.run().await;
        assert_eq!(waits.state(), RunState::AwaitingApproval, "{}", waits.show());
        let (two_hours, root) = (Millis::from_secs(7_200), waits.run.id);
        let Some(Event::Parked(parked)) = waits.events().find(|event| matches!(event, Event::Parked(_))) else {
            panic!("{}", waits.show())
        };
        assert_eq!(parked.until, clock.now().after(two_hours), "{link:?}");
        assert_eq!(world.runtime.store().holds().expect("holds"), [], "nothing is held meanwhile");
        clock.advance(two_hours);
        let driven = tokio::time::timeout(HANGS, world.runtime.drive(root, silent())).await;
        assert_eq!(driven.expect("it doesn't hang").expect("it goes on"), RunState::Stopped);
        let levels = levels(&world, world.told(root));
        for told in &levels {
            assert_eq!(told.refusal().limit.name(), "expires", "{}", told.show());
            assert_names(told.refusal(), &world, link, ("expires", "2h"));
        }
        assert_eq!(levels.len(), 3);
        world.verify();
    }
}
