//! Azure over a real socket: its addresses, its one credential, its shapes, and what its errors cost.

use super::*;
use crate::domain::message::StopReason;
use crate::spec::project::{Azure, AzureApi, AzureAuth, Deployment, DeploymentScope};

fn azure(server: &Server, change: impl FnOnce(&mut ProviderConfig, &mut Azure)) -> ProviderConfig {
    let deployment = Deployment { model: "gpt-5-mini".into(), scope: DeploymentScope::Global };
    let mut azure = Azure {
        api_version: None,
        api: AzureApi::Chat,
        auth: AzureAuth::ApiKey,
        deployments: BTreeMap::from([("support".to_owned(), deployment)]),
    };
    let mut config = ProviderConfig {
        name: ProviderName::from("azure"),
        wire: Wire::AzureOpenAi,
        base_url: format!("http://{}", server.address),
        key: KeySource::Command(["printf", KEY].map(str::to_owned).to_vec()),
        quirks: Quirks::AZURE,
        ..config(server)
    };
    change(&mut config, &mut azure);
    ProviderConfig { azure: Some(azure), ..config }
}

fn asked() -> Request {
    Request { model: ModelName::from("azure/support"), ..request() }
}

async fn ask(config: &ProviderConfig, request: &Request) -> AnswerResult {
    client(config).call(Permit::for_test(LONG, LONG), request, None, never()).await.result
}

#[tokio::test]
async fn every_path_carries_one_credential() {
    const RESPONSE: &str = r#"{"id":"resp_1","status":"completed","model":"gpt-5-mini","output":[{"type":"message","content":[{"type":"output_text","text":"Hello"}]}]}"#;
    let version = || Some("2024-10-21".to_owned());
    let rows = [
        (AzureApi::Chat, None, "/openai/v1/chat/completions", SAID),
        (AzureApi::Chat, version(), "/openai/deployments/support/chat/completions?api-version=2024-10-21", SAID),
        (AzureApi::Responses, None, "/openai/v1/responses", RESPONSE),
        (AzureApi::Responses, version(), "/openai/responses?api-version=2024-10-21", RESPONSE),
    ];
    for (api, api_version, path, answer) in rows {
        for (auth, base) in [(AzureAuth::ApiKey, ""), (AzureAuth::Entra, "/openai/v1/")] {
            let mut server = Server::playing(vec![json("200 OK", answer)]).await;
            let config = azure(&server, |config, azure| {
                config.base_url.push_str(base);
                (azure.api, azure.api_version, azure.auth) = (api, api_version.clone(), auth);
            });
            assert_eq!(replied(ask(&config, &asked()).await).message.text, "Hello");
            let heard = server.heard().await;
            assert!(heard.head.starts_with(&format!("POST {path} HTTP/1.1")), "{}", heard.head);
            let bearer = format!("Bearer {KEY}");
            let expected = match auth {
                AzureAuth::ApiKey => (Some(KEY), None),
                AzureAuth::Entra => (None, Some(bearer.as_str())),
            };
            assert_eq!((heard.header("api-key"), heard.header("authorization")), expected);
            assert_eq!(heard.json()["model"], "support");
            assert_eq!(heard.json().get("service_tier"), None, "older versions refuse it");
        }
    }
}

#[tokio::test]
async fn errors_are_billed_but_for_a_bad_key_and_a_full_rate() {
    let filtered = r#"{"error":{"message":"The response was filtered","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"hate":{"filtered":true,"severity":"high"}}}}}"#;
    let older = r#"{"error":{"message":"no","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#;
    let rows = [
        ("400 Bad", filtered, ErrorClass::ContentFilter),
        ("400 Bad", older, ErrorClass::ContentFilter),
        ("400 Bad", r#"{"error":{"code":"context_length_exceeded","message":"x"}}"#, ErrorClass::ContextTooLong),
        ("403 No", r#"{"error":{"code":"403","message":"x"}}"#, ErrorClass::Forbidden),
        ("404 None", r#"{"error":{"code":"DeploymentNotFound","message":"x"}}"#, ErrorClass::NotFound),
        ("408 Late", r#"{"error":{"code":"Timeout","message":"x"}}"#, ErrorClass::RequestTimeout),
        ("503 Busy", r#"{"error":{"code":"server_is_overloaded","message":"x"}}"#, ErrorClass::Overloaded),
    ];
    for (status, body, class) in rows {
        let server = Server::playing(vec![json(status, body)]).await;
        assert_eq!(unknown(ask(&azure(&server, |_, _| {}), &asked()).await).class, class, "{body}");
    }
    for (status, class) in [("401 No", ErrorClass::BadKey), ("429 Slow", ErrorClass::RateLimited)] {
        let server = Server::playing(vec![json(status, "")]).await;
        assert_eq!(unbilled(ask(&azure(&server, |_, _| {}), &asked()).await).class, class);
    }
}

#[tokio::test]
async fn what_the_content_filter_adds_to_an_answer_is_read_over() {
    let first = r#"{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}"#;
    let piece = r#"{"id":"chatcmpl-1","model":"gpt-5-mini-2025-08-07","choices":[{"index":0,"content_filter_results":{"error":{"code":"content_filter_error","message":"out"}},"delta":{"content":"Hel"},"finish_reason":null}],"usage":null}"#;
    let last = r#"{"id":"chatcmpl-1","choices":[{"index":0,"content_filter_offsets":{"check_offset":44},"content_filter_results":{},"delta":{},"finish_reason":"content_filter"}],"usage":null}"#;
    let mut script = vec![stream_head()];
    script.extend([first, piece, last].map(|event| chunk(&format!("data: {event}\n\n"))));
    script.extend([chunk(USAGE), chunk(DONE), stream_end()]);
    let server = Server::playing(script).await;
    let reply = replied(ask(&azure(&server, |_, _| {}), &Request { stream: true, ..asked() }).await);
    assert_eq!((reply.message.text.as_str(), reply.stop), ("Hel", StopReason::ContentFilter));
    assert_eq!(reply.response_model.as_deref(), Some("gpt-5-mini-2025-08-07"), "the base model, not the deployment");
    assert_eq!(reply.usage.map(|usage| usage.output.0), Some(9));
}

#[test]
fn a_model_is_known_by_what_stands_behind_its_deployment() {
    let deployment = |model: &str, scope| (model.to_owned(), Deployment { model: model.into(), scope });
    let azure = Azure {
        api_version: None,
        api: AzureApi::Chat,
        auth: AzureAuth::ApiKey,
        deployments: BTreeMap::from([
            deployment("gpt-6.1-sol", DeploymentScope::DataZoneEu),
            deployment("gpt-4o-mini", DeploymentScope::Global),
        ]),
    };
    let config = ProviderConfig {
        name: ProviderName::from("az"),
        wire: Wire::AzureOpenAi,
        base_url: "https://acme.openai.azure.com".into(),
        key: KeySource::None,
        headers: BTreeMap::new(),
        api_version: None,
        betas: Vec::new(),
        inference_geo: None,
        quirks: Quirks { no_cache_writes: true, ..Quirks::AZURE },
        models: BTreeMap::new(),
        azure: Some(azure),
        accounts: Vec::new(),
        strict: false,
    };
    let priced = |model: &str| config.priced_as(&model.into()).map(|name| name.to_string());
    assert_eq!(priced("az/gpt-6.1-sol").as_deref(), Some("azure/eu/gpt-6.1-sol"));
    assert_eq!(priced("az/gpt-4o-mini").as_deref(), Some("azure/gpt-4o-mini"));
    assert_eq!(priced("az/nobody"), None);
    let fields = |model: &str| {
        let request = Request { model: model.into(), ..request() };
        let body: serde_json::Value =
            serde_json::from_slice(&super::super::encode(&config, &request).expect("a body")).expect("JSON");
        body.get("prompt_cache_options").is_some()
    };
    assert!(fields("az/gpt-6.1-sol") && !fields("az/gpt-4o-mini"));
}
