//! Agents: what one run can cost at most and why, who owns it, and its prompt versions side by side.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;

use super::guard::Visitor;
use super::layout::{Section, Shell, Told, html};
use super::overview::{Feature, name};
use super::text::link;
use crate::api::{AgentRow, AgentTable, CostQuery, FaultRow};
use crate::domain::access::Scope;
use crate::domain::limits::AtLimit;
use crate::domain::report::{CostRow, CostTable, Dimension};
use crate::ids::ModelName;
use crate::units::{Millis, Timestamp};

/// How far back costs go.
const BACK: Millis = Millis::from_secs(29 * 86_400);

/// The most prompt versions of an agent that are shown; the one that it runs now is always among them.
const VERSIONS_SHOWN: usize = 10;

#[derive(Template)]
#[template(path = "agents.html")]
struct AgentsPage {
    shell: Shell,
    agents: Vec<Agent>,
    faults: Vec<FaultRow>,
}

struct Agent {
    name: String,
    description: String,
    owner: Option<String>,
    feature: Option<String>,
    models: String,
    load_line: String,
    binds: String,
    worst_call: Option<String>,
    at_limit: String,
    unpriced: Option<String>,
    runs: String,
    /// The prompt that it runs now.
    prompt: String,
    versions: Vec<Version>,
    /// How many there are, where not all are shown.
    versions_of: Option<usize>,
}

/// A prompt version, by what its runs cost and were worth.
struct Version {
    sums: Feature,
    latency: String,
    is_now: bool,
}

/// All agents as they are configured now.
pub(super) async fn page(visitor: Visitor) -> Result<Response, Told> {
    visitor.may(Scope::Read)?;
    let now = visitor.service.now();
    let query = CostQuery {
        by: vec![Dimension::PromptVersion, Dimension::Agent],
        since: Timestamp(now.0.saturating_sub(BACK.0)),
        until: now,
        only: Vec::new(),
        against_previous: false,
    };
    let costs = visitor.service.read(move |books| books.costs(&query)).await?;
    let versions = by_agent(&costs);
    let AgentTable { agents, faults } = visitor.service.agents();
    let agents = agents.into_iter().map(|agent| Agent::of(agent, &versions)).collect();
    html(&AgentsPage { shell: visitor.shell(Section::Agents, "Agents"), agents, faults })
}

fn by_agent(costs: &CostTable) -> BTreeMap<String, Vec<&CostRow>> {
    let mut rows: BTreeMap<String, Vec<&CostRow>> = BTreeMap::new();
    for row in &costs.rows {
        let agent = row.values.0.get(1).and_then(|(_, agent)| agent.clone()).unwrap_or_default();
        rows.entry(agent).or_default().push(row);
    }
    rows
}

impl Agent {
    fn of(agent: AgentRow, versions: &BTreeMap<String, Vec<&CostRow>>) -> Self {
        let binds = agent.binds.iter().map(|bound| format!("{} ({})", bound.limit, bound.declared));
        let names = |models: &[ModelName], between: &str| {
            models.iter().map(ModelName::as_str).collect::<Vec<_>>().join(between)
        };
        let name = agent.agent.to_string();
        let rows = versions.get(&name).map(Vec::as_slice).unwrap_or_default();
        Self {
            models: names(&agent.models, ", then "),
            load_line: agent.load_line_usd.to_string(),
            binds: binds.collect::<Vec<_>>().join(" and "),
            worst_call: agent.worst_call.as_ref().map(|call| {
                let (input, output) = (call.input_tokens, call.output_tokens);
                format!("{} with {}: {input} tokens in, {output} out", call.cost_usd, call.model)
            }),
            at_limit: match agent.at_limit {
                AtLimit::Land => format!("one last answer, {} kept back for it", agent.landing_usd),
                AtLimit::Stop => "it ends at once".to_owned(),
            },
            unpriced: (!agent.unpriced.is_empty()).then(|| names(&agent.unpriced, ", ")),
            runs: link("/runs", &[("agent", &name)]),
            versions: Version::shown(rows, &agent.prompt_version),
            versions_of: (rows.len() > VERSIONS_SHOWN).then_some(rows.len()),
            description: agent.description,
            owner: agent.owner,
            feature: agent.feature,
            prompt: agent.prompt_version,
            name,
        }
    }
}

impl Version {
    /// Those that cost most, and the one that is run now.
    fn shown(rows: &[&CostRow], now: &str) -> Vec<Self> {
        let all = rows.iter().map(|row| Self::of(row, now));
        all.enumerate()
            .filter(|(place, version)| *place < VERSIONS_SHOWN || version.is_now)
            .map(|(_, version)| version)
            .collect()
    }

    fn of(row: &CostRow, now: &str) -> Self {
        let worth = row.sums.worth.as_ref();
        let times = worth.and_then(|worth| Some((worth.run_p50_ms?, worth.run_p95_ms?)));
        Self {
            sums: Feature::of(row),
            latency: times.map_or_else(|| "–".to_owned(), |(p50, p95)| format!("{p50} / {p95}")),
            is_now: name(&row.values) == now,
        }
    }
}
