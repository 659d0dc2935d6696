//! Who is logged in: sessions in memory, bounded in number and age. A restart ends them all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::{HeaderMap, header};

use crate::api::{ApiError, Caller, Gatekeeper, hash, random};
use crate::units::{Millis, Timestamp};

/// The cookie that names a session.
const COOKIE: &str = "plimsoll_session";
/// The longest that a session lives.
const AGE_MAX: Millis = Millis::from_secs(12 * 3_600);
/// The longest that nothing is asked in it.
const IDLE_MAX: Millis = Millis::from_secs(2 * 3_600);
/// Sessions at once; beyond them the one that was used longest ago ends.
const SESSIONS_MAX: usize = 1_000;

/// One session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// Who logged in.
    pub(super) caller: Caller,
    /// What its forms carry.
    pub(super) token: String,
    began: Timestamp,
    used: Timestamp,
}

impl Session {
    fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.began) > AGE_MAX || now.since(self.used) > IDLE_MAX
    }
}

/// All of them, by the hash of what their cookie says: what it says is kept nowhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions(Arc<Mutex<BTreeMap<String, Session>>>);

impl Sessions {
    /// Begins one; gives what its cookie says.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(super) fn begin(&self, caller: Caller, now: Timestamp) -> Result<String, ApiError> {
        let (id, token) = (random::<32>()?, random::<32>()?);
        let mut sessions = self.all();
        sessions.retain(|_, session| !session.is_over(now));
        if sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.used).map(|(id, _)| id.clone());
            oldest.map(|id| sessions.remove(&id));
        }
        sessions.insert(hash(&id), Session { caller, token, began: now, used: now });
        Ok(id)
    }

    /// The session of a request, where its cookie names one that isn't over and whose key still counts.
    pub(super) fn find(&self, headers: &HeaderMap, keeper: &Gatekeeper, now: Timestamp) -> Option<Session> {
        let id = hash(named(headers)?);
        let mut sessions = self.all();
        let session = sessions.get_mut(&id)?;
        if session.is_over(now) || !keeper.still_admits(&session.caller) {
            sessions.remove(&id);
            return None;
        }
        session.used = now;
        Some(session.clone())
    }

    /// Ends the session of a request.
    pub(super) fn end(&self, headers: &HeaderMap) {
        if let Some(id) = named(headers) {
            self.all().remove(&hash(id));
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn named(headers: &HeaderMap) -> Option<&str> {
    cookie(headers, COOKIE)
}

/// What a request's cookie of this name says.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = all.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(found, _)| *found == name).map(|(_, value)| value).next()
}

/// The header that sets a session's cookie; over TLS it goes nowhere else.
pub(super) fn set(id: &str, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE}={id}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}", AGE_MAX.0 / 1_000)
}

/// The header that takes it away.
pub(super) fn unset() -> String {
    format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(id: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, format!("a=b; {COOKIE}={id}").parse().expect("a header"));
        headers
    }

    #[test]
    fn a_session_lives_while_it_is_used_and_no_longer_than_it_may() {
        let (sessions, keeper) = (Sessions::default(), Gatekeeper::default());
        let id = sessions.begin(Caller::local(), Timestamp(0)).expect("random bytes");
        let mut now = Timestamp(0);
        for _ in 0..6 {
            assert!(sessions.find(&asking(&id), &keeper, now).is_some(), "{now}");
            now = now.after(IDLE_MAX);
        }
        assert!(sessions.find(&asking(&id), &keeper, now).is_some());
        assert!(sessions.find(&asking(&id), &keeper, now.after(Millis(1))).is_none(), "its age");
        let idle = sessions.begin(Caller::local(), Timestamp(0)).expect("random bytes");
        assert!(sessions.find(&asking(&idle), &keeper, Timestamp(IDLE_MAX.0 + 1)).is_none());
        assert!(sessions.find(&asking("x"), &keeper, Timestamp(0)).is_none());
        assert!(sessions.find(&HeaderMap::new(), &keeper, Timestamp(0)).is_none());
    }

    #[test]
    fn there_are_only_so_many_and_one_can_be_ended() {
        let (sessions, keeper) = (Sessions::default(), Gatekeeper::default());
        let begin = |at| sessions.begin(Caller::local(), Timestamp(at)).expect("random bytes");
        let first = begin(0);
        let second = begin(1);
        (0..SESSIONS_MAX).for_each(|at| drop(begin(2 + u64::try_from(at).expect("few"))));
        assert_eq!(sessions.all().len(), SESSIONS_MAX);
        assert!(sessions.find(&asking(&first), &keeper, Timestamp(9)).is_none(), "the oldest went");
        assert!(sessions.find(&asking(&second), &keeper, Timestamp(9)).is_none());
        let last = begin(9_000);
        sessions.end(&asking(&last));
        assert!(sessions.find(&asking(&last), &keeper, Timestamp(9_000)).is_none());
    }
}
