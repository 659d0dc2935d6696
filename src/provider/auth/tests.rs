//! Where keys come from, and how they stay hidden.

use super::*;
use crate::clock::Clock;

fn command(words: &[&str]) -> Keys {
    Keys::new(ProviderName::from("p"), KeySource::Command(words.iter().map(|word| (*word).to_owned()).collect()))
}

async fn key_of(keys: &Keys) -> Result<Option<Secret>, ProviderError> {
    Ok(keys.key(&Http::new(Clock::system())).await?.map(|key| key.secret))
}

async fn failure(words: &[&str]) -> String {
    key_of(&command(words)).await.expect_err("no key").to_string()
}

#[tokio::test]
async fn the_first_line_of_a_command_is_the_key() {
    let keys = command(&["printf", "  sk-test-1234 \nsecond line\n"]);
    assert_eq!(key_of(&keys).await.expect("a key"), Some(Secret::from("sk-test-1234")));
}

#[tokio::test]
async fn a_commands_key_is_kept_until_it_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = Keys::new(ProviderName::from("p"), KeySource::Command(counting(folder.path())));
    for expected in ["1", "1"] {
        assert_eq!(key_of(&keys).await.expect("a key"), Some(Secret::from(expected)));
    }
    keys.forget(&Key { secret: Secret::from("another"), kept: true });
    assert_eq!(key_of(&keys).await.expect("a key"), Some(Secret::from("1")), "one that was renewed meanwhile stays");
    assert!(keys.forget(&Key { secret: Secret::from("1"), kept: true }), "another is got");
    assert_eq!(key_of(&keys).await.expect("a key"), Some(Secret::from("2")));
}

#[tokio::test]
async fn a_command_that_gives_no_key_says_why() {
    assert!(failure(&["false"]).await.contains("exit status: 1"));
    assert!(failure(&["true"]).await.contains("no key on its first line"));
    assert!(failure(&["./no-such-program"]).await.contains("can't be started"));
    assert!(failure(&[]).await.contains("names no program"));
    assert!(failure(&["sh", "-c", "yes | head -c 20000"]).await.contains("more than 16384 bytes"));
}

#[tokio::test]
async fn a_variable_is_the_key() {
    let keys = Keys::new(ProviderName::from("openai"), KeySource::Env("PATH".to_owned()));
    let path = std::env::var("PATH").expect("every process has one");
    assert_eq!(key_of(&keys).await.expect("a key"), Some(Secret::from(path.trim())));
    assert_eq!(keys.check(), Ok(()));
}

#[tokio::test]
async fn a_variable_that_is_not_set_is_named() {
    let keys = Keys::new(ProviderName::from("openai"), KeySource::Env("PLIMSOLL_TEST_NO_SUCH_KEY".to_owned()));
    let told = key_of(&keys).await.expect_err("no key").to_string();
    assert!(told.contains("`PLIMSOLL_TEST_NO_SUCH_KEY`") && told.contains("`openai`"), "{told}");
    assert!(keys.check().is_err());
}

#[test]
fn a_secret_is_never_printed() {
    let secret = Secret::from("sk-test-1234");
    assert!(!format!("{secret:?}").contains("1234"));
    assert_eq!(redact("bad key sk-test-1234,\n bye", Some(&secret)), "bad key [redacted],  bye");
    assert_eq!(redact(&"ü".repeat(600), None).chars().count(), MESSAGE_CHARS_MAX);
}

/// A program that prints how often it ran.
fn counting(folder: &Path) -> Vec<String> {
    let count = folder.join("count");
    let script = format!("echo x >> {0}; wc -l < {0} | tr -d ' '", count.display());
    ["sh", "-c", &script].map(str::to_owned).to_vec()
}

#[tokio::test]
async fn a_commands_token_is_renewed_before_it_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = KeySource::TokenCommand { command: counting(folder.path()), lifetime: Millis::from_secs(3_600) };
    let keys = Keys::new(ProviderName::from("azure"), source);
    let clock = Clock::virtual_at(Timestamp(1_795_392_000_000));
    let http = Http::new(clock.clone());
    for (seconds, expected, kept) in [(0, "1", false), (3_000, "1", true), (374, "1", true), (1, "2", false)] {
        clock.advance(Millis::from_secs(seconds));
        let key = keys.key(&http).await.expect("a key").expect("a key");
        assert_eq!((key.secret.expose(), key.kept), (expected, kept), "after {seconds} s");
    }
}

#[tokio::test]
async fn a_token_that_is_still_good_stands_in_for_one_that_cannot_be_had() {
    let folder = tempfile::tempdir().expect("a folder");
    let once = format!("mkdir {} && echo first", folder.path().join("once").display());
    let command = ["sh", "-c", &once].map(str::to_owned).to_vec();
    let keys =
        Keys::new(ProviderName::from("azure"), KeySource::TokenCommand { command, lifetime: Millis::from_secs(3_600) });
    let clock = Clock::virtual_at(Timestamp(1_795_392_000_000));
    let http = Http::new(clock.clone());
    for seconds in [0, 3_400, 199] {
        clock.advance(Millis::from_secs(seconds));
        assert_eq!(keys.key(&http).await.expect("a key").expect("a key").secret, Secret::from("first"));
    }
    clock.advance(Millis::from_secs(1));
    assert!(matches!(keys.key(&http).await, Err(ProviderError::KeyCommand { .. })));
}

#[tokio::test]
async fn a_file_is_read_anew_for_each_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    let keys = Keys::new(ProviderName::from("azure"), KeySource::File(path.clone()));
    let missing = keys.check().expect_err("no file").to_string();
    assert!(missing.contains("token`, which can't be read"), "{missing}");
    for text in [" one \nmore", "two"] {
        std::fs::write(&path, text).expect("a file");
        let first = text.split_whitespace().next().expect("a word");
        assert_eq!(key_of(&keys).await.expect("a key"), Some(Secret::from(first)));
    }
    std::fs::write(&path, "\n").expect("a file");
    assert!(key_of(&keys).await.expect_err("no key").to_string().contains("holds no key on its first line"));
    std::fs::write(&path, "x".repeat(70_000)).expect("a file");
    assert!(key_of(&keys).await.expect_err("no key").to_string().contains("more than 65536 bytes"));
    assert!(Keys::new(ProviderName::from("p"), KeySource::File(folder.path().into())).check().is_err());
}
