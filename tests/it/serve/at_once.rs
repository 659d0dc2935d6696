//! What several change at the same moment, and what whoever asked doesn't wait for.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use plimsoll::api::{AnswerRequest, IntakeOptions};
use plimsoll::domain::event::{Event, PersonAnswered, RunState};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::turns::{PATIENCE, RELEASE, of, options, until};
use super::{AGENT, BUDGET, SCENARIO, Served, told};
use crate::world::{Recipe, Told, World};

fn answered(told: &Told) -> Option<&PersonAnswered> {
    told.events().find_map(|event| if let Event::PersonAnswered(answered) = event { Some(answered) } else { None })
}

fn asking() -> World {
    let scenario = "[[reply]]\nrepeat = 'forever'\ntext = 'well'\n";
    Recipe::agent(RELEASE).scenario(scenario).start()
}

/// Goes on with what is asked for so many times, and lets go of it: as a server does whose caller hangs up.
async fn polled<F: Future>(asked: F, mut times: usize) -> Option<F::Output> {
    let mut asked = pin!(asked);
    let going_on = poll_fn(|context| {
        if times == 0 {
            return Poll::Ready(None);
        }
        times -= 1;
        asked.as_mut().poll(context).map(Some)
    });
    going_on.await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_answers_and_hangs_up_leaves_no_run_behind_that_stands_still() {
    let world = asking();
    let served = Served::of(&world, options(1)).await;
    let mut was_whole = false;
    for times in 1..64 {
        let asked = told(served.post("/v1/runs", &of("a", "x", "20s")).await, StatusCode::OK).await;
        assert_eq!(asked["state"], "awaiting_approval", "{asked}");
        let id = asked["run"].as_str().expect("an id").to_owned();
        let request = AnswerRequest { by: "ann".to_owned(), ..AnswerRequest::default() };
        let whole = polled(served.service.answer(id.clone(), &request), times).await.is_some();
        // What is on its way to the disk when the caller goes may still come there.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let run = |world: &World| world.all().into_iter().find(|told| told.run.id.to_string() == id).expect("the run");
        if answered(&run(&world)).is_some() {
            until(&world, "it goes on", |world| run(world).state() == RunState::Finished).await;
        }
        if whole {
            was_whole = times > 1;
            break;
        }
    }
    assert!(was_whole, "it was hung up on, and answered in the end");
    served.close().await;
    world.verify();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_decides_is_who_the_key_says_and_not_the_request() {
    let world = asking();
    let served = Served::of(&world, IntakeOptions::default()).await;
    let (_, admin) = served.make(None, &json!({"name": "ops", "scopes": ["admin"]})).await;
    let (_, bob) = served.make(Some(&admin), &json!({"name": "bob", "scopes": ["approve", "read"]})).await;
    let asked = served.with(&admin, Method::POST, "/v1/runs", Some(&of("a", "x", "20s"))).await;
    let path = format!("/v1/runs/{}/approve", told(asked, StatusCode::OK).await["run"].as_str().expect("an id"));
    let yes = json!({"by": "the boss", "wait": "20s"});
    let ended = told(served.with(&bob, Method::POST, &path, Some(&yes)).await, StatusCode::OK).await;
    assert_eq!(ended["state"], "finished", "{ended}");
    let all = world.all();
    assert_eq!(answered(&all[0]).map(|answered| answered.by.as_str()), Some("bob"));
    served.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_changed_at_once_are_each_as_the_log_says() {
    let world = Recipe::agent(AGENT).scenario(SCENARIO).file("plimsoll.toml", BUDGET).start();
    let served = Served::of(&world, IntakeOptions::default()).await;
    let (_, admin) = served.make(None, &json!({"name": "ops", "scopes": ["admin"]})).await;
    let why = json!({"reason": "they left"});
    for _ in 0..4 {
        let make = async |_| served.make(Some(&admin), &json!({"name": "dashboard", "scopes": ["read"]})).await;
        let made = futures_util::future::join_all((0..8).map(make)).await;
        for (_, secret) in &made {
            assert_eq!(served.seen(secret, "/v1/runs").await, StatusCode::OK);
        }
        let change = async |(number, (id, _)): (usize, &(String, String))| -> Value {
            let what = if number % 2 == 0 { "revoke" } else { "rotate" };
            let path = format!("/v1/keys/{id}/{what}");
            told(served.with(&admin, Method::POST, &path, Some(&why)).await, StatusCode::OK).await
        };
        let changed = futures_util::future::join_all(made.iter().enumerate().map(change)).await;
        for ((_, old), changed) in made.iter().zip(changed) {
            // Or that it was tried too often.
            assert_ne!(served.seen(old, "/v1/runs").await, StatusCode::OK, "{changed}");
            if let Some(new) = changed["secret"].as_str() {
                assert_eq!(served.seen(new, "/v1/runs").await, StatusCode::OK, "{changed}");
            }
        }
    }
    tokio::time::timeout(PATIENCE, served.close()).await.expect("it closes");
}
