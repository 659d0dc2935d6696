//! `[[alerts]]` and `alerts_at`: what is wrong with them is said, with its place and how to mend it.

use plimsoll::spec::alerts::AlertWay;
use plimsoll::spec::load::{LoadOptions, load_configuration};

const BUDGET: &str = "[[budgets]]\nname = 'month'\ncap = '$500'\nper = 'month'\n";

fn load(text: &str) -> Result<plimsoll::spec::project::Project, String> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("plimsoll.toml"), text).expect("it is written");
    load_configuration(folder.path(), &LoadOptions::default()).map_err(|faults| format!("{faults:?}"))
}

#[test]
fn what_is_written_is_what_is_heard() {
    let project = load(&format!(
        "{BUDGET}alerts_at = ['80%', '50%', '99.5%']\n[[alerts]]\nname = 'a'\non = ['budget', 'failed']\nbudgets = ['month']\n\
         labels = {{ agent = 'triage' }}\ncommand = ['./page.sh', 'now']\nenv = ['PAGER']\ntimeout = '3s'\n\
         [[alerts]]\nname = 'b'\non = ['unknown']\nlog = true\n"
    ))
    .expect("it loads");
    let shares: Vec<String> = project.budgets[0].alerts_at.iter().map(ToString::to_string).collect();
    assert_eq!(shares, ["50%", "80%", "99.5%"], "the lowest first");
    let first = &project.alerts[0];
    assert_eq!((first.rule.name.as_str(), first.timeout.0, first.rule.on.len()), ("a", 3_000, 2));
    assert!(matches!(&first.way, AlertWay::Command { command, env, .. } if command.len() == 2 && env == &["PAGER"]));
    assert_eq!(project.alerts[1].way, AlertWay::Log);
    assert_eq!(project.ledger_policy().alerts.len(), 2);
}

#[test]
fn each_mistake_is_named() {
    let alert = |keys: &str| format!("{BUDGET}[[alerts]]\nname = 'a'\n{keys}");
    let hook = "webhook = 'https://example.com/x'\n";
    let rows = [
        (format!("{BUDGET}alerts_at = ['80']\n"), "`80` is no share of a cap"),
        (format!("{BUDGET}alerts_at = ['101%']\n"), "`101%` is no share of a cap"),
        (format!("{BUDGET}alerts_at = ['80%', '80%']\n"), "the share `80%` is named twice"),
        (alert("on = ['failed']\n"), "this alert goes nowhere"),
        (alert("on = ['faild']\nlog = true\n"), "did you mean `failed`?"),
        (alert("log = true\n"), "`on` is missing"),
        (alert("on = ['failed']\nlog = true\ncommand = ['x']\n"), "`command` and `log` are both there"),
        (alert(&format!("on = ['failed']\n{hook}")), "a webhook is signed, and this one has no secret"),
        (alert(&format!("on = ['failed']\n{hook}secret_env = 'A'\nsecret_file = 'b'\n")), "are both there"),
        (alert(&format!("on = ['failed']\n{hook}secret_env = 'A'\nenv = ['B']\n")), "`env` says nothing here"),
        (alert("on = ['failed']\nlog = true\nsecret_env = 'A'\n"), "`secret_env` says nothing here"),
        (alert("on = ['failed']\nlog = true\ntimeout = '1s'\n"), "`timeout` says nothing here"),
        (alert("on = ['failed']\nlog = true\nbudgets = ['month']\n"), "`budgets` filters what this alert doesn't hear"),
        (alert("on = ['budget']\nlog = true\nlabels = { a = 'b' }\n"), "`labels` filters what this alert doesn't hear"),
        (alert("on = ['budget']\nlog = true\nbudgets = ['mont']\n"), "did you mean `month`?"),
        (alert("on = ['failed']\nwebhook = 'ftp://x'\nsecret_env = 'A'\n"), "begins with neither"),
        (alert("on = ['failed']\nwebhook = 'https://u:p@x'\nsecret_env = 'A'\n"), "holds credentials"),
    ];
    for (text, expected) in rows {
        let told = load(&text).map(|_| ()).expect_err("it is refused");
        assert!(told.contains(expected), "{text}\n{told}");
    }
}

#[test]
fn a_secret_in_the_place_of_its_variables_name_is_not_shown() {
    let text = "[[alerts]]\nname = 'a'\non = ['failed']\nwebhook = 'https://example.com'\nsecret_env = 'whsec_c2VjcmV0LXNlY3JldA=='\n";
    let told = load(text).map(|_| ()).expect_err("it is refused");
    assert!(told.contains("names no environment variable"), "{told}");
}
