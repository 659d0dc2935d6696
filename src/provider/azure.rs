//! `OpenAI`'s wires at Azure: other addresses, another header for the key, and other rules of what an error costs.
//!
//! Invariants: one credential goes out, never two; what failed is billed as Azure bills it, whatever host stands before it.
//! Deliberately absent: Claude at Foundry, provisioned throughput, the model router, and Azure's own data sources.

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use super::ProviderError;
use super::auth::Secret;
use super::dialect::{Dialect, Reader};
use super::evidence::{Billing, Facts, Host};
use super::exchange::{base_url, below};
use super::fault::Broken;
use super::openai_chat::OpenAiChat;
use super::openai_responses::OpenAiResponses;
use crate::domain::message::{Reply, Request};
use crate::spec::project::{AzureApi, AzureAuth, ProviderConfig};

/// The header of a resource's key.
const API_KEY: HeaderName = HeaderName::from_static("api-key");
/// Ends of an address that its path goes on from; people copy them from the portal.
const PATHS: [&str; 2] = ["/openai/v1", "/openai"];

/// Azure's flavour of one of `OpenAI`'s wires.
#[derive(Debug)]
pub(super) struct Azure {
    inner: Box<dyn Dialect>,
    resource: Url,
    api: AzureApi,
    /// The version that classic paths name; `None` for the v1 path.
    api_version: Option<String>,
    auth: AzureAuth,
}

impl Azure {
    pub(super) fn new(config: &ProviderConfig) -> Result<Self, ProviderError> {
        let mut resource = base_url(config)?;
        let path = resource.path().trim_end_matches('/').to_owned();
        if let Some(root) = PATHS.iter().find_map(|end| path.strip_suffix(end)) {
            resource.set_path(root);
        }
        let azure = config.azure.as_ref();
        let api = azure.map_or(AzureApi::Chat, |azure| azure.api);
        Ok(Self {
            inner: match api {
                AzureApi::Chat => Box::new(OpenAiChat::new(config)?),
                AzureApi::Responses => Box::new(OpenAiResponses::new(config)?),
            },
            resource,
            api,
            api_version: azure.and_then(|azure| azure.api_version.clone()),
            auth: azure.map_or(AzureAuth::ApiKey, |azure| azure.auth),
        })
    }
}

impl Dialect for Azure {
    fn base_url(&self) -> &Url {
        &self.resource
    }

    /// By the v1 path the body names the deployment, by the classic one of chat completions the path does.
    fn url(&self, request: &Request) -> Result<Url, ProviderError> {
        let Some(version) = &self.api_version else {
            return Ok(below(
                &self.resource,
                match self.api {
                    AzureApi::Chat => "openai/v1/chat/completions",
                    AzureApi::Responses => "openai/v1/responses",
                },
            ));
        };
        let mut url = match self.api {
            AzureApi::Chat => {
                below(&self.resource, &format!("openai/deployments/{}/chat/completions", request.model.model()))
            }
            AzureApi::Responses => below(&self.resource, "openai/responses"),
        };
        url.query_pairs_mut().append_pair("api-version", version);
        Ok(url)
    }

    fn body(&self, request: &Request) -> Result<Vec<u8>, ProviderError> {
        self.inner.body(request)
    }

    fn own_headers(&self) -> &'static [&'static str] {
        &["authorization", "api-key"]
    }

    fn credential(&self, secret: &Secret) -> Option<(HeaderName, HeaderValue)> {
        match self.auth {
            AzureAuth::ApiKey => Some((API_KEY, HeaderValue::from_str(secret.expose()).ok()?)),
            AzureAuth::Entra => self.inner.credential(secret),
        }
    }

    fn request_ids(&self) -> &'static [&'static str] {
        &["x-request-id", "apim-request-id"]
    }

    fn whole(&self, request: &Request, call_id: &str, body: &[u8]) -> Result<Reply, Broken> {
        self.inner.whole(request, call_id, body)
    }

    fn reader(&self, request: &Request, call_id: String) -> Box<dyn Reader> {
        self.inner.reader(request, call_id)
    }

    /// Azure's rows of the table, also where its host is hidden behind another name.
    fn evidence(&self, facts: &Facts) -> Billing {
        self.inner.evidence(&Facts { host: Host::Azure, ..*facts })
    }
}
