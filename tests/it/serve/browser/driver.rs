//! A headless Chromium of this test's own, over a chromedriver of its own, by the wire of W3C WebDriver.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

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
/// The highest picture.
const PICTURE_HEIGHT_MAX: u64 = 12_000;
/// How long the driver may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// The field in which the wire names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Finds what shuts somebody out of a page.
const SCAN: &str = include_str!("scan.js");

/// Keys, as the wire writes them.
pub(super) const TAB: &str = "\u{e004}";
pub(super) const ENTER: &str = "\u{e007}";

/// A width and a scheme.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    name: &'static str,
    width: u32,
    height: u32,
    mobile: bool,
    scheme: &'static str,
}

impl Look {
    pub(super) const DESK: Self = Self { name: "desk", width: 1_280, height: 900, mobile: false, scheme: "light" };
    pub(super) const DARK_PHONE: Self =
        Self { name: "phone-dark", width: 390, height: 844, mobile: true, scheme: "dark" };
}

/// A browser, and the service whose pages it looks at. Both end with it, whatever came of the test.
pub(super) struct Browser {
    base: String,
    session: String,
    port: u16,
    chromedriver: Child,
    _profile: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver closes its browser before it answers.
        drop(self.try_ask("DELETE", "", &json!({})));
        if let Err(error) = self.chromedriver.kill().and_then(|()| self.chromedriver.wait()) {
            tell(&format!("chromedriver {} may still run: {error}", self.chromedriver.id()));
        }
    }
}

impl Browser {
    /// Starts one; nothing where there is none, which is said.
    pub(super) fn start(base: String) -> Option<Self> {
        let programs = found(&["chromedriver"]).zip(found(&BROWSERS));
        let Some((chromedriver, chromium)) = programs else {
            let must = std::env::var_os("PLIMSOLL_BROWSER").is_some();
            assert!(!must, "PLIMSOLL_BROWSER asks for the tests of pages, and there is no chromedriver or no Chromium");
            tell(
                "LEFT OUT: the browser tests of pages: no `chromedriver` or no Chromium in PATH (Debian: chromium, chromium-driver)",
            );
            return None;
        };
        let profile = tempfile::tempdir().expect("a folder");
        let profile_argument = format!("--user-data-dir={}", profile.path().display());
        let arguments: Vec<&str> = ARGUMENTS.into_iter().chain([profile_argument.as_str()]).collect();
        let capabilities = json!({
            "goog:chromeOptions": {"binary": chromium, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "timeouts": {"implicit": PATIENCE.as_millis(), "pageLoad": ANSWER_TIME_MAX.as_millis()},
        });
        let (chromedriver, port) = listening(&chromedriver);
        let mut browser = Self { base, session: String::new(), port, chromedriver, _profile: profile };
        let made = browser.ask("POST", "", &json!({"capabilities": {"alwaysMatch": capabilities}}));
        browser.session = format!("/{}", made["sessionId"].as_str().expect("a session"));
        browser.look(Look::DESK);
        Some(browser)
    }

    pub(super) fn goto(&self, path: &str) {
        self.ask("POST", "/url", &json!({"url": format!("{}{path}", self.base)}));
    }

    pub(super) fn execute(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until something holds in the page that is shown.
    pub(super) fn until(&self, condition: &str) {
        let patience = PATIENCE.as_millis();
        let held = self.execute(&format!(
            "const end = performance.now() + {patience};\
             return new Promise((done) => {{ const look = () => ({condition}) ? done(true)\
             : performance.now() > end ? done(false) : setTimeout(look, 20); look(); }})"
        ));
        assert_eq!(held, json!(true), "{condition}");
    }

    /// Presses a key, wherever the focus is.
    pub(super) fn press(&self, key: &str) {
        let strokes = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        self.ask("POST", "/actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": strokes}]}));
    }

    /// The first element of a selector, once there is one.
    pub(super) fn shows(&self, selector: &str) -> Element<'_> {
        let found = self.ask("POST", "/element", &json!({"using": "css selector", "value": selector}));
        Element { browser: self, path: format!("/element/{}", found[ELEMENT].as_str().expect("an element")) }
    }

    /// Looks at pages in each look: they are scanned, and nothing is loaded from elsewhere or said on the console.
    pub(super) fn visit(&self, paths: &[&str], looks: &[Look]) {
        for path in paths {
            self.goto(path);
            for look in looks {
                self.look(*look);
                let faults = self.scan();
                assert_eq!(faults, json!([]), "{path}, {look:?}");
                self.keep(path, *look);
            }
        }
        self.look(Look::DESK);
        self.is_quiet();
    }

    /// What shuts somebody out of the page that is shown.
    pub(super) fn scan(&self) -> Value {
        self.execute(SCAN)
    }

    /// Everything that was asked for since was asked of this service, and nobody complained.
    pub(super) fn is_quiet(&self) {
        let said = self.log("browser");
        // A page that isn't there says so by its status, which a browser tells on its console.
        let faults: Vec<&Value> = said.iter().filter(|said| !said.to_string().contains("/runs/nothing")).collect();
        assert!(faults.is_empty(), "{faults:?}");
        for entry in self.log("performance") {
            let message: Value = serde_json::from_str(entry["message"].as_str().unwrap_or_default()).expect("JSON");
            if message["message"]["method"] == "Network.requestWillBeSent" {
                let url = message["message"]["params"]["request"]["url"].as_str().unwrap_or_default();
                // A browser's own empty page loads its own parts, from nowhere.
                let is_within = url.starts_with("data:") || url.starts_with("chrome://");
                assert!(is_within || url.starts_with(&format!("{}/", self.base)), "{url}");
            }
        }
    }

    /// Passes over what was said so far.
    pub(super) fn forgets(&self) {
        self.log("browser");
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.ask("POST", "/se/log", &json!({"type": kind}));
        entries.as_array().expect("a list").clone()
    }

    fn look(&self, look: Look) {
        let Look { width, height, mobile, scheme, name: _ } = look;
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &media);
    }

    /// Keeps a picture of the page, down to where a browser draws none any more, in the folder that `PLIMSOLL_PICTURES` names.
    fn keep(&self, path: &str, look: Look) {
        let Some(folder) = std::env::var_os("PLIMSOLL_PICTURES") else { return };
        let height = self.execute("return document.documentElement.scrollHeight").as_u64().unwrap_or_default();
        let clip = json!({"x": 0, "y": 0, "width": look.width, "height": height.min(PICTURE_HEIGHT_MAX), "scale": 1});
        let picture = self.devtools("Page.captureScreenshot", &json!({"captureBeyondViewport": true, "clip": clip}));
        let bytes = STANDARD.decode(picture["data"].as_str().expect("a picture")).expect("base64");
        let page: String = path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        fs::write(Path::new(&folder).join(format!("{page}-{}.png", look.name)), bytes).expect("it is written");
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.ask("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.try_ask(method, path, body).expect("chromedriver answers");
        let value = answer["value"].clone();
        assert!(value.get("error").is_none(), "{method} {path} {body}: {value}");
        value
    }

    /// The driver keeps a connection open whatever is asked: an answer ends where its length says so.
    fn try_ask(&self, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
        let (body, host) = (body.to_string(), format!("127.0.0.1:{}", self.port));
        let mut stream = TcpStream::connect(&host)?;
        stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        let head = format!("{method} /session{}{path} HTTP/1.1\r\nHost: {host}\r\n", self.session);
        let request = format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes())?;
        let mut answer = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        while answer.read_line(&mut line)? > 2 {
            let field = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            length = field.map_or(length, |(_, value)| value.trim().parse().unwrap_or(length));
            line.clear();
        }
        Ok(serde_json::from_reader(answer.take(length))?)
    }
}

/// An element of the page that is shown.
pub(super) struct Element<'a> {
    browser: &'a Browser,
    path: String,
}

impl Element<'_> {
    pub(super) fn text(&self) -> String {
        let text = self.browser.ask("GET", &format!("{}/text", self.path), &json!({}));
        text.as_str().expect("a text").to_owned()
    }

    pub(super) fn click(&self) {
        self.browser.ask("POST", &format!("{}/click", self.path), &json!({}));
    }

    /// Types into it; a key that moves on may stand at the end.
    pub(super) fn types(&self, text: &str) {
        self.browser.ask("POST", &format!("{}/value", self.path), &json!({"text": text}));
    }
}

/// Not by the macro, whose output a test that passes keeps for itself.
fn tell(message: &str) {
    writeln!(std::io::stderr(), "{message}").expect("standard error takes it");
}

/// The first of some programs that there is.
fn found(names: &[&str]) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let all: Vec<PathBuf> = std::env::split_paths(&paths).collect();
    names.iter().find_map(|name| all.iter().map(|folder| folder.join(name)).find(|path| path.is_file()))
}

/// A chromedriver, and the port that it chose.
fn listening(program: &Path) -> (Child, u16) {
    let mut command = Command::new(program);
    command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("chromedriver starts");
    let words = child.stdout.take().expect("its words");
    let (sender, port) = mpsc::channel();
    std::thread::spawn(move || listen(words, &sender));
    match port.recv_timeout(PATIENCE) {
        Ok(port) => (child, port),
        Err(error) => {
            child.kill().and_then(|()| child.wait()).expect("it is ours");
            panic!("chromedriver doesn't say where it listens: {error}");
        }
    }
}

/// Reads all that it says, so that it never waits for a reader.
fn listen(words: ChildStdout, port: &mpsc::Sender<u16>) {
    for line in BufReader::new(words).lines().map_while(Result::ok) {
        let found = line.split("successfully on port ").nth(1).and_then(|rest| rest.trim_end_matches('.').parse().ok());
        // Who asked has heard it, or waits no more.
        found.map(|found| port.send(found).ok());
    }
}
