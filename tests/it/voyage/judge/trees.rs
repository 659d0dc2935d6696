//! Trees: who hangs below whom, what a child came to, and that any prefix of the logs says the same of what comes next.

use std::collections::BTreeSet;
use std::sync::Arc;

use plimsoll::domain::event::{ChildBegan, ChildEnded, Created, Ended, Event, Recorded, Spent};
use plimsoll::domain::plan::{Plan, ToolPlan};
use plimsoll::domain::run::{CallCheck, Tree};
use plimsoll::ids::RunId;
use serde_json::Value;

use super::Judge;
use super::known::ChildBook;

/// Every so many commits, the logs are folded again from their beginning.
const FOLDED_AGAIN: u64 = 16;

/// The same answer to the same text.
struct Lenient;

impl CallCheck for Lenient {
    fn arguments(&self, _: &ToolPlan, raw: &str) -> Result<(), String> {
        serde_json::from_str::<Value>(raw).map(drop).map_err(|error| error.to_string())
    }

    fn output(&self, _: &Value, text: &str) -> Result<Value, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

impl Judge {
    /// Notes a plan, and those of the agents below it: as it is meant, and as it was given.
    pub(in crate::voyage) fn learn(&mut self, meant: &Arc<Plan>, given: &Arc<Plan>) {
        let hash = given.hash();
        self.plans.insert(hash.clone(), meant.clone());
        self.given.insert(hash, given.clone());
        for (name, below) in &given.agents {
            self.learn(&meant.agents[name], below);
        }
    }

    /// A new run hangs where its parent's agent has its plan.
    pub(super) fn hang(&mut self, run: RunId, created: &Created) {
        let Some(parent) = &created.parent else { return };
        self.saw("child");
        let Some(above) = self.runs.get(&parent.run) else {
            return self.broken(format!("(16) {run} hangs below a run that there isn't"));
        };
        let fits = above.root == parent.root && above.plan.agents.contains_key(&created.agent);
        let labels = above.created.labels == created.labels;
        self.check(fits && labels, || format!("(16) {run} hangs below a run that has no such agent"));
        let levels = u32::try_from(self.chain(run).len()).expect("few");
        if levels == 3 {
            self.saw("grandchild");
        }
        for (distance, above) in (0..).zip(self.chain(run)) {
            let most = self.runs[&above].plan.limits.depth;
            self.check(distance <= most, || format!("(10) {run} is {distance} levels below {above}, of {most}"));
        }
    }

    pub(super) fn begin_child(&mut self, run: RunId, began: &ChildBegan) {
        self.enter(run, &began.place);
        self.begin_work(run, &began.place);
        let mut spent = Spent { children: 1, ..Spent::default() };
        if let Some(call) = &began.call {
            self.saw("child as a tool");
            (spent.steps, spent.tool_calls) = (1, 1);
            self.repeat(run, &began.place.stage, &call.arguments_hash);
            let is_new = self.known(run).steps_used.insert(call.step);
            self.check(is_new, || format!("(10) {} is step {}, which was made already", began.child, call.step));
        }
        self.spend(run, &began.place.stage, &spent);
        let known = self.known(run);
        let book = ChildBook { place: began.place.clone(), told: None };
        let again = known.children.insert(began.child, book).is_some();
        let (count, most) = (known.children.len(), known.plan.limits.children);
        self.check(!again, || format!("(16) {} begins twice", began.child));
        let fits = u32::try_from(count).is_ok_and(|count| count <= most);
        self.check(fits, || format!("(10) {run} has {count} children of {most}"));
        let most = self.known(run).plan.limits_of(&began.place.stage).children;
        let book = self.known(run).stage(&began.place.stage);
        book.children += 1;
        let count = book.children;
        self.check(count <= most, || format!("(10) `{}` of {run} has {count} children of {most}", began.place));
    }

    pub(super) fn end_child(&mut self, run: RunId, ended: &ChildEnded) {
        let child = ended.child;
        let Some(book) = self.known(run).children.get_mut(&child) else {
            return self.broken(format!("(16) {child} ends below {run}, where it never began"));
        };
        let again = book.told.replace((ended.end.clone(), ended.spent)).is_some();
        self.check(!again, || format!("(16) {run} is told twice of the end of {child}"));
    }

    pub(super) fn end(&mut self, run: RunId, ended: &Ended) {
        let known = self.known(run);
        known.ended = Some(ended.clone());
        let left: Vec<RunId> =
            known.children.iter().filter(|(_, book)| book.told.is_none()).map(|(child, _)| *child).collect();
        // Both facts are of one write, the child's first.
        self.check(left.is_empty(), || format!("(11) {run} has ended, and {left:?} below it have not"));
        let calls: Vec<_> = self.open.keys().filter(|id| id.run == run).copied().collect();
        let sent = calls.into_iter().find(|id| self.open[id].sent);
        self.check(sent.is_none(), || format!("(11) {run} has ended, and {sent:?} is in flight"));
    }

    /// What must be told in one write (8, 16).
    pub(super) fn whole(&mut self, events: &[(RunId, Recorded)]) {
        for (run, recorded) in events {
            let gives_up = matches!(recorded.event, Event::LandingReleased(_)) && !self.catching_up;
            let waits = self.known(*run).state.awaits_person();
            self.check(!gives_up || waits, || format!("(2) {run} gives up its landing reserve and goes on"));
        }
        let mut touched: BTreeSet<RunId> = BTreeSet::new();
        for (run, recorded) in events {
            if let Event::ChildBegan(ChildBegan { child, .. }) | Event::ChildEnded(ChildEnded { child, .. }) =
                &recorded.event
            {
                touched.insert(*child);
            }
            if matches!(recorded.event, Event::Created(_) | Event::Ended(_)) {
                touched.insert(*run);
            }
        }
        for run in touched {
            let Some(known) = self.runs.get(&run) else {
                self.broken(format!("(16) {run} began, and was never made"));
                continue;
            };
            let Some(parent) = known.created.parent.clone() else { continue };
            let (ended, own) = (known.ended.clone(), known.own.plus(&known.below));
            let book = self.runs.get(&parent.run).and_then(|above| above.children.get(&run));
            let Some(book) = book else {
                self.broken(format!("(16) {run} was made, and {} never began it", parent.run));
                continue;
            };
            let (told, here) = (book.told.clone(), book.place.stage == parent.stage);
            self.check(here, || format!("(16) {run} hangs at another stage than it says"));
            let told_end = told.as_ref().map(|(end, _)| end);
            self.check(told_end == ended.as_ref(), || format!("(16) {run} has ended as {ended:?}, told {told_end:?}"));
            let Some((_, spent)) = told else { continue };
            let told = Spent { usage: own.usage, ..spent };
            self.check(told == own, || format!("(16) {run} came to {own:?}, and its parent is told {told:?}"));
        }
    }

    /// Folds a fact into its tree.
    pub(super) fn follow_tree(&mut self, run: RunId, recorded: &Recorded) {
        let Some(known) = self.runs.get(&run) else { return };
        let root = known.root;
        match self.trees.get_mut(&root) {
            Some(tree) => tree.apply(recorded.at, run, &recorded.event),
            None => drop(self.load_tree(root).map(|tree| self.trees.insert(root, tree))),
        }
    }

    fn load_tree(&self, root: RunId) -> Option<Tree> {
        let known = self.runs.get(&root)?;
        let plan = self.given.get(&known.created.plan)?.clone();
        let read = |run: RunId| Ok::<_, ()>(self.runs.get(&run).map(|known| known.log.clone()).unwrap_or_default());
        Tree::load(root, plan, read).ok().flatten()
    }

    /// After a restart the trees are read from their logs.
    pub(super) fn load_trees(&mut self) {
        let roots: BTreeSet<RunId> = self.runs.values().map(|known| known.root).collect();
        self.trees = roots.into_iter().filter_map(|root| Some((root, self.load_tree(root)?))).collect();
    }

    /// The logs as they are by now, folded from their beginning, say the same of what comes next as the facts did one by
    /// one (9).
    pub(super) fn compare_trees(&mut self, events: &[(RunId, Recorded)]) {
        if !self.commits.is_multiple_of(FOLDED_AGAIN) {
            return;
        }
        let roots: BTreeSet<RunId> = events.iter().filter_map(|(run, _)| Some(self.runs.get(run)?.root)).collect();
        for root in roots {
            let Some(tree) = self.trees.get(&root) else { continue };
            let Some(again) = self.load_tree(root) else {
                self.broken(format!("(9) the logs of the tree of {root} can't be folded"));
                continue;
            };
            let next = [tree, &again].map(|tree| format!("{:?}", tree.next(self.now, &Lenient)));
            let spent = [tree, &again].map(|tree| tree.spent(root));
            let known = &self.runs[&root];
            let own = (known.own.plus(&known.below).settled, known.own.plus(&known.below).steps);
            let told = (spent[0].settled, spent[0].steps);
            let same = next[0] == next[1] && spent[0] == spent[1];
            self.check(same, || format!("(9) {root} goes on by {}, and from its log by {}", next[0], next[1]));
            self.check(told == own, || format!("(16) {root} has come to {told:?}; its logs say {own:?}"));
        }
    }
}
