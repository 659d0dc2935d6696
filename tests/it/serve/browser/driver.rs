//! A headless Chromium of this test's own, over a chromedriver of its own.

use std::io::{BufRead, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use thirtyfour::prelude::*;

/// What a browser is started with: nothing that it would do by itself.
const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];
/// The names by which a Chromium may be found.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
/// How long something may take to be shown.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// Finds what shuts somebody out of a page.
const SCAN: &str = include_str!("scan.js");

/// A width and a scheme.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    width: u32,
    height: u32,
    mobile: bool,
    scheme: &'static str,
}

impl Look {
    pub(super) const DESK: Self = Self { width: 1_280, height: 900, mobile: false, scheme: "light" };
    pub(super) const DARK: Self = Self { scheme: "dark", ..Self::DESK };
    pub(super) const PHONE: Self = Self { width: 390, height: 844, mobile: true, scheme: "light" };
    pub(super) const DARK_PHONE: Self = Self { scheme: "dark", ..Self::PHONE };
}

/// A browser, and who drives it.
pub(super) struct Browser {
    driver: WebDriver,
    chromedriver: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one; nothing where there is none, which is said.
    pub(super) async fn start() -> Option<Self> {
        let programs = found(&["chromedriver"]).zip(found(&BROWSERS));
        let Some((chromedriver, chromium)) = programs else {
            let must = std::env::var_os("PLIMSOLL_BROWSER").is_some();
            assert!(!must, "PLIMSOLL_BROWSER asks for the tests of pages, and there is no chromedriver or no Chromium");
            let message = "LEFT OUT: the browser tests of pages: no `chromedriver` or no Chromium in PATH (Debian: chromium, chromium-driver)";
            // Not by the macro, whose output a test that passes keeps for itself.
            writeln!(std::io::stderr(), "{message}").expect("standard error takes it");
            return None;
        };
        let profile = tempfile::tempdir().expect("a folder");
        let mut caps = DesiredCapabilities::chrome();
        let profile_argument = format!("--user-data-dir={}", profile.path().display());
        for argument in ARGUMENTS.into_iter().chain([profile_argument.as_str()]) {
            caps.add_arg(argument).expect("an argument");
        }
        caps.set_binary(&chromium.to_string_lossy()).expect("a path");
        caps.set("goog:loggingPrefs".to_owned(), json!({"browser": "ALL", "performance": "ALL"})).expect("settings");
        let (chromedriver, port) = listening(&chromedriver);
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), caps).await.expect("a browser");
        Some(Self { driver, chromedriver, _profile: profile })
    }

    /// Does something in it, and ends it, whatever came of that.
    pub(super) async fn finish(self, work: impl AsyncFnOnce(&Self) -> WebDriverResult<()>) {
        let done = work(&self).await;
        let Self { driver, mut chromedriver, _profile } = self;
        driver.quit().await.expect("it ends");
        chromedriver.kill().expect("it is ours");
        chromedriver.wait().expect("it is ours");
        done.expect("it can be done");
    }

    pub(super) async fn goto(&self, base: &str, path: &str) -> WebDriverResult<()> {
        self.driver.goto(format!("{base}{path}")).await
    }

    pub(super) async fn execute(&self, script: &str) -> WebDriverResult<Value> {
        Ok(self.driver.execute(script, Vec::new()).await?.json().clone())
    }

    pub(super) async fn press(&self, key: &Key) -> WebDriverResult<()> {
        self.driver.action_chain().send_keys(key.clone()).perform().await
    }

    /// The first element of a selector, once there is one.
    pub(super) async fn shows(&self, selector: &str) -> WebDriverResult<WebElement> {
        self.driver.query(By::Css(selector)).wait(PATIENCE, LOOK).first().await
    }

    /// Looks at pages in each look: they are scanned, and nothing is loaded from elsewhere or said on the console.
    pub(super) async fn visit(&self, base: &str, paths: &[&str], looks: &[Look]) -> WebDriverResult<()> {
        for look in looks {
            self.look(*look).await?;
            for path in paths {
                self.goto(base, path).await?;
                let faults = self.scan().await?;
                assert_eq!(faults, json!([]), "{path}, {look:?}");
            }
        }
        self.look(Look::DESK).await?;
        self.is_quiet(base).await
    }

    /// What shuts somebody out of the page that is shown.
    pub(super) async fn scan(&self) -> WebDriverResult<Value> {
        self.execute(SCAN).await
    }

    async fn look(&self, look: Look) -> WebDriverResult<()> {
        let Look { width, height, mobile, scheme } = look;
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.driver.cdp().send_raw("Emulation.setDeviceMetricsOverride", size).await?;
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.driver.cdp().send_raw("Emulation.setEmulatedMedia", media).await.map(drop)
    }

    /// Everything that was asked for since was asked of this service, and nobody complained.
    pub(super) async fn is_quiet(&self, base: &str) -> WebDriverResult<()> {
        let said: Vec<String> = self.driver.get_log("browser").await?.into_iter().map(|entry| entry.message).collect();
        // A page that isn't there says so by its status, which a browser tells on its console.
        let faults: Vec<&String> = said.iter().filter(|said| !said.contains("/runs/nothing")).collect();
        assert!(faults.is_empty(), "{faults:?}");
        for entry in self.driver.get_log("performance").await? {
            let message: Value = serde_json::from_str(&entry.message).expect("JSON");
            if message["message"]["method"] == "Network.requestWillBeSent" {
                let url = message["message"]["params"]["request"]["url"].as_str().unwrap_or_default();
                assert!(url.starts_with(&format!("{base}/")) || url.starts_with("data:"), "{url}");
            }
        }
        Ok(())
    }
}

/// The first of some programs that there is.
fn found(names: &[&str]) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let all: Vec<PathBuf> = std::env::split_paths(&paths).collect();
    names.iter().find_map(|name| all.iter().map(|folder| folder.join(name)).find(|path| path.is_file()))
}

/// A chromedriver, and the port that it chose.
fn listening(program: &std::path::Path) -> (Child, u16) {
    let mut command = Command::new(program);
    command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("chromedriver starts");
    let lines = BufReader::new(child.stdout.take().expect("its words")).lines().map_while(Result::ok);
    let port =
        lines.take(20).find_map(|line| line.split("successfully on port ").nth(1)?.trim_end_matches('.').parse().ok());
    (child, port.expect("it says where it listens"))
}
