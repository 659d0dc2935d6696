//! Agents' files: loops, and workflows of stages of every kind, with the agents further down as stages and as tools.

use std::collections::BTreeMap;

use super::{QUESTION, TOOLS, decimal, draw_cap};
use crate::voyage::dice::Dice;

/// Stages of one agent.
const STAGES_MAX: u64 = 5;

/// The files of all agents.
pub(super) fn draw(dice: &mut Dice, agents: u64, crowd: bool) -> Vec<String> {
    (0..agents).map(|number| Shipwright { dice, below: (number + 1..agents).collect(), crowd }.agent()).collect()
}

struct Shipwright<'a> {
    dice: &'a mut Dice,
    /// The agents that this one may call.
    below: Vec<u64>,
    crowd: bool,
}

/// What was drawn for an agent, which its stages stay inside of.
struct Limits {
    /// In micro-dollars.
    cost: u64,
    drawn: BTreeMap<&'static str, u64>,
    text: String,
}

impl Shipwright<'_> {
    fn agent(&mut self) -> String {
        let limits = self.limits();
        let is_workflow = self.dice.chance(60);
        let own = if is_workflow || self.dice.chance(40) { String::new() } else { self.agents() };
        let mut text = format!("description = 'a'\ntools = [{}]\n{own}", self.tools(60));
        text += &self.model();
        text += &format!(
            "[retry]\nattempts = {}\nbackoff = '{}ms..2s'\nretry_after = '{}s'\n",
            self.dice.between(1, 4),
            self.dice.between(10, 400),
            self.dice.between(0, 3)
        );
        let mut output = "";
        if self.dice.chance(25) {
            output = "[output]\ntype = 'object'\nrequired = ['answer']\nproperties.answer = { type = 'string' }\n";
        }
        text += &limits.text;
        if !is_workflow {
            return text + output;
        }
        text += &self.stages(&limits);
        text
    }

    fn model(&mut self) -> String {
        let model = self.dice.pick(&["policy = 'good'", "models = ['p/amber']", "models = ['r/cedar', 'q/birch']"]);
        let (most, least) = self.dice.pick(&[(64, 16), (300, 40), (800, 100), (800, 800)]);
        let words = "steady as she goes ".repeat(usize::try_from(self.dice.between(1, 30)).expect("few"));
        format!(
            "[model]\n{model}\nmax_output_tokens = {most}\nmin_output_tokens = {least}\nstream = {}\n\
             [prompt]\nsystem = '{words}'\nuser = '{{{{ input }}}}'\n",
            self.dice.chance(50),
        )
    }

    fn tools(&mut self, percent: u64) -> String {
        let of_people = |name: &str| matches!(name, "sign" | QUESTION);
        let named =
            TOOLS.iter().filter(|(name, _)| self.dice.chance(if of_people(name) { percent / 2 } else { percent }));
        let named = named.map(|(name, _)| format!("'{name}'"));
        named.collect::<Vec<_>>().join(", ")
    }

    fn agents(&mut self) -> String {
        let named: Vec<String> = self.below.iter().map(|number| format!("'a{number}'")).collect();
        if named.is_empty() { String::new() } else { format!("agents = [{}]\n", named.join(", ")) }
    }

    fn on_error(&mut self) -> &'static str {
        self.dice.pick(&["", "on_error = 'continue'\n"])
    }

    /// Stages in a line, in a row or in between, and the answer of the last one.
    fn stages(&mut self, limits: &Limits) -> String {
        let count = self.dice.between(1, STAGES_MAX);
        let mut text = String::from("[output]\nfrom = 's0'\n").replace("s0", &format!("s{}", count - 1));
        for number in 0..count {
            let earlier: Vec<u64> = (0..number).collect();
            let needs: Vec<u64> = earlier.into_iter().filter(|_| self.dice.chance(45)).collect();
            text += &format!("[[stage]]\nid = 's{number}'\n");
            if !needs.is_empty() {
                let named: Vec<String> = needs.iter().map(|need| format!("'s{need}'")).collect();
                text += &format!("needs = [{}]\n", named.join(", "));
            }
            text += &self.when(needs.first().copied());
            text += self.on_error();
            text += &self.kind(needs.first().copied(), limits);
        }
        text
    }

    fn when(&mut self, need: Option<u64>) -> String {
        match (self.dice.between(0, 9), need) {
            (0, _) => format!("when = 'input | length > {}'\n", self.dice.between(5, 30)),
            (1 | 2, Some(need)) => format!("when = \"stages.s{need}.state == 'finished'\"\n"),
            _ => String::new(),
        }
    }

    fn kind(&mut self, need: Option<u64>, limits: &Limits) -> String {
        let shown = need.map_or_else(|| "input".to_owned(), |need| format!("stages.s{need}.output"));
        match self.dice.between(0, 9) {
            0..=2 => {
                let parallel = self.dice.chance(40).then(|| ("parallel", self.dice.between(1, 2)));
                let limits = self.stage_limits(limits, parallel);
                let on_error = self.on_error();
                let items = self.dice.between(0, 6);
                format!("kind = 'map'\nover = 'range({items})'\n{limits}[stage.each]\n{on_error}{}", self.work("item"))
            }
            3 => {
                let limits = self.stage_limits(limits, None);
                format!("kind = 'approval'\nask = 'May it be?'\nshow = '{shown}'\n{limits}")
            }
            _ => {
                let limits = self.stage_limits(limits, None);
                limits + &*self.work(&shown)
            }
        }
    }

    /// The work of a stage, or of one item.
    fn work(&mut self, what: &str) -> String {
        match self.dice.between(0, 9) {
            0..=2 => format!("kind = 'model'\nprompt = {{ user = 'Tell {{{{ {what} }}}}.' }}\n"),
            3..=4 => {
                let (tools, agents) = (self.tools(50), self.agents());
                format!("kind = 'loop'\ntools = [{tools}]\n{agents}prompt = {{ user = 'Work on {{{{ {what} }}}}.' }}\n")
            }
            5..=8 if !self.below.is_empty() => {
                let agent = self.dice.pick(&self.below);
                format!("kind = 'agent'\nagent = 'a{agent}'\ninput = 'See to {{{{ {what} }}}}.'\n")
            }
            _ => {
                // Most of them without people.
                let most = if self.dice.chance(75) { 4 } else { TOOLS.len() };
                let (tool, _) = self.dice.pick(&TOOLS[..most]);
                let n = if what == "item" { "{{ item }}" } else { "{{ 7 }}" };
                let args = if tool == QUESTION { "question = 'Well?'".to_owned() } else { format!("n = '{n}'") };
                format!("kind = 'tool'\ntool = '{tool}'\nargs = {{ {args} }}\n")
            }
        }
    }

    /// Limits of a stage, each inside the agent's.
    fn stage_limits(&mut self, limits: &Limits, more: Option<(&str, u64)>) -> String {
        let defaults = [
            ("steps", 20),
            ("model_calls", 20),
            ("tool_calls", 40),
            ("attempts", 40),
            ("wall_time", 60),
            ("children", 8),
            ("repeats", 3),
            ("tokens", 20_000),
            ("input_tokens", 15_000),
            ("output_tokens", 4_000),
        ];
        let mut own = Vec::new();
        for (name, most) in defaults {
            let most = limits.drawn.get(name).copied().unwrap_or(most);
            // The same call twice in a stage is rare, and so are many sub-agents.
            let is_rare = matches!(name, "repeats" | "children");
            if self.dice.chance(if is_rare { 35 } else { 12 }) {
                let most = if is_rare { most.min(2) } else { most };
                let value = self.dice.between(1.max(most / 8), most);
                own.push(if name == "wall_time" {
                    format!("{name} = '{value}s'")
                } else {
                    format!("{name} = {value}")
                });
            }
        }
        if self.dice.chance(20) {
            let cost = self.dice.between(limits.cost / 8, limits.cost);
            own.push(format!("cost = '${}'", decimal(u128::from(cost) * 1_000_000)));
        }
        if self.dice.chance(15) {
            own.push(format!("expires = '{}s'", self.dice.between(5, 20)));
        }
        if let Some((name, value)) = more {
            let most = limits.drawn.get(name).copied().unwrap_or(value);
            own.push(format!("{name} = {}", value.min(most)));
        }
        if own.is_empty() { String::new() } else { format!("limits = {{ {} }}\n", own.join(", ")) }
    }

    fn limits(&mut self) -> Limits {
        let (crowd, dice) = (self.crowd, &mut *self.dice);
        let cost = draw_cap(dice) * 2;
        let mut text = format!("[limits]\ncost = '${}'\n", decimal(u128::from(cost) * 1_000_000));
        let mut drawn = BTreeMap::new();
        let mut limit = |name: &'static str, percent, least, most, unit: &str| {
            if dice.chance(percent) {
                let value = dice.between(least, most);
                let quote = if unit.is_empty() { "" } else { "'" };
                text += &format!("{name} = {quote}{value}{unit}{quote}\n");
                drawn.insert(name, value);
            }
        };
        limit("steps", 60, 3, 24, "");
        limit("model_calls", 50, 2, 14, "");
        limit("tool_calls", 50, 1, 14, "");
        limit("attempts", 60, 3, 20, "");
        limit("repeats", 60, 1, 8, "");
        limit("tool_errors", 60, 1, 6, "");
        limit("parallel", 70, 1, 4, "");
        limit("children", 70, 2, 8, "");
        limit("items", 20, 2, 8, "");
        limit("landing_tokens", 60, 200, 3_000, "");
        limit("landing_output_tokens", 60, 16, 200, "");
        limit("tokens", 20, 4_000, 30_000, "");
        limit("input_tokens", 12, 3_500, 20_000, "");
        limit("output_tokens", 12, 500, 6_000, "");
        limit("wall_time", 60, 5, 90, "s");
        limit("model_call_time", 80, 1, 8, "s");
        limit("first_token_time", 40, 1, 4, "s");
        limit("tool_call_time", 60, 1, 4, "s");
        limit("budget_wait", 90, 1, 20, "s");
        limit("expires", 100, 20, 120, "s");
        if dice.chance(30) {
            text += "at_limit = 'stop'\n";
        }
        if crowd || dice.chance(50) {
            let most = if crowd { 1_500 } else { 6_000 };
            text += &format!("expected_cost = '${}'\n", decimal(u128::from(dice.between(500, most)) * 1_000_000));
        }
        Limits { cost, drawn, text }
    }
}
