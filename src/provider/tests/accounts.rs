//! Accounts of one provider: each sends its own key and headers, and a key's file may be written anew at any time; and what
//! an answer's head says of the provider's own limits.

use std::path::Path;

use super::*;
use crate::domain::account::Account;
use crate::domain::event::Labels;
use crate::domain::rate::Measure;
use crate::spec::project::ProviderAccount;

fn account(name: &str, key: KeySource, headers: &[(&str, &str)]) -> ProviderAccount {
    let labels = Labels::from([("tenant".to_owned(), name.to_owned())]);
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    ProviderAccount { account: Account { name: name.into(), labels }, key, headers }
}

fn with_accounts(server: &Server, key: &Path, accounts: Vec<ProviderAccount>) -> Client {
    let headers = BTreeMap::from([("openai-project".to_owned(), "own".to_owned())]);
    client(&ProviderConfig { key: KeySource::File(key.to_owned()), headers, accounts, ..config(server) })
}

/// Makes a call that an account pays for, and gives the key and the project of its request.
async fn sent(client: &Client, server: &mut Server, account: Option<&str>) -> (Option<String>, Option<String>) {
    let mut permit = Permit::for_test(LONG, LONG);
    if let Some(account) = account {
        permit = permit.paid_by(account);
    }
    replied(client.call(permit, &request(), None, never()).await.result);
    let heard = server.heard().await;
    let header = |name| heard.header(name).map(str::to_owned);
    (header("authorization"), header("openai-project"))
}

#[tokio::test]
async fn each_account_sends_its_own_key_and_headers() {
    let mut server = Server::playing(vec![json("200 OK", SAID)]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, key: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, key).expect("a file");
        path
    };
    let (own, acme) = (file("own", "sk-own\n"), file("acme", "sk-acme\n"));
    let accounts = vec![
        account("acme", KeySource::File(acme), &[("OpenAI-Project", "acme")]),
        account("bolt", KeySource::None, &[("OpenAI-Project", "bolt")]),
    ];
    let client = with_accounts(&server, &own, accounts);
    let pair = |key: &str, project: &str| (Some(format!("Bearer {key}")), Some(project.to_owned()));
    assert_eq!(sent(&client, &mut server, None).await, pair("sk-own", "own"));
    assert_eq!(sent(&client, &mut server, Some("acme")).await, pair("sk-acme", "acme"));
    assert_eq!(sent(&client, &mut server, Some("bolt")).await, pair("sk-own", "bolt"), "headers of its own only");
    let (acme, own) = (client.head(&request(), Some(&"acme".into())), client.head(&request(), None));
    assert!(acme.contains("openai-project: \"acme\"") && own.contains("openai-project: \"own\""), "{acme} {own}");
    assert!(!acme.contains("sk-"), "no key is shown");
}

#[tokio::test]
async fn a_key_that_is_written_anew_is_sent_with_the_next_call() {
    let mut server = Server::playing(vec![json("200 OK", SAID)]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key");
    std::fs::write(&key, "sk-first\n").expect("a file");
    let client = with_accounts(&server, &key, vec![]);
    assert_eq!(sent(&client, &mut server, None).await.0.as_deref(), Some("Bearer sk-first"));
    std::fs::write(&key, "sk-second\n").expect("a file");
    assert_eq!(sent(&client, &mut server, None).await.0.as_deref(), Some("Bearer sk-second"));
}

/// Refused while its file still holds the key, it is a bad key; once it holds another, another attempt takes that.
#[tokio::test]
async fn a_key_that_is_refused_while_it_is_rotated_is_tried_again() {
    let refusal = r#"{"error":{"message":"no","type":"invalid_request_error","code":"invalid_api_key"}}"#;
    let wait = Act::Wait(std::time::Duration::from_millis(200));
    let mut server = Server::playing(vec![wait, json("401 Unauthorized", refusal)]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key");
    std::fs::write(&key, "sk-first\n").expect("a file");
    let acme = account("acme", KeySource::File(key.clone()), &[]);
    let client = with_accounts(&server, &key, vec![acme]);
    let request = request();
    let call = || client.call(Permit::for_test(LONG, LONG).paid_by("acme"), &request, None, never());
    assert_eq!(unbilled(call().await.result).class, ErrorClass::BadKey);
    server.heard().await;
    let rotates = async {
        server.heard().await;
        std::fs::write(&key, "sk-second\n").expect("a file");
    };
    let (answered, ()) = tokio::join!(call(), rotates);
    let failure = unbilled(answered.result);
    assert_eq!(failure.class, ErrorClass::StaleKey);
    assert!(!failure.message.contains("sk-"), "{failure:?}");
}

/// Of an answer that went well, and of one that says no.
#[tokio::test]
async fn what_a_provider_says_of_its_limits_comes_up_with_the_answer() {
    let lines =
        ["x-ratelimit-limit-tokens: 1000", "x-ratelimit-remaining-tokens: 250", "x-ratelimit-reset-tokens: 45s"];
    let lines: Vec<&str> = lines.into_iter().chain(["content-type: application/json"]).collect();
    for status in ["200 OK", "429 Too Many Requests"] {
        let server = Server::playing(vec![answer(status, &lines, SAID)]).await;
        let told = call(&server, &request()).await.rates;
        let window = told.0[&Measure::Tokens];
        assert_eq!((window.limit, window.remaining, window.resets_in), (Some(1_000), 250, Millis(45_000)), "{status}");
        assert_eq!(told.0.len(), 1);
    }
}
