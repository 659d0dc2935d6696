//! Accounts of one provider, so that its own bill splits as the project wants: which one pays for a run is decided by labels.
//!
//! Deliberately absent: keys. An account is known here by its name only.

use std::collections::BTreeMap;

use crate::domain::event::Labels;
use crate::ids::AccountName;

/// One account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: AccountName,
    /// Labels that a run must have to be paid by it.
    pub labels: BTreeMap<String, String>,
}

/// The accounts of one provider, beside its own key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// In the order of the file: the first that fits pays.
    pub list: Vec<Account>,
    /// True where a run that fits none is refused, instead of being paid by the provider's own key.
    pub strict: bool,
}

/// No account fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAccount;

impl Accounts {
    /// Who pays for a run; `None` for the provider's own key.
    ///
    /// # Errors
    /// No account fits, and they are strict.
    pub fn choose(&self, labels: &Labels) -> Result<Option<&AccountName>, NoAccount> {
        let fits = |account: &&Account| account.labels.iter().all(|(name, value)| labels.get(name) == Some(value));
        match self.list.iter().find(fits) {
            Some(account) => Ok(Some(&account.name)),
            None if self.strict => Err(NoAccount),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_first_account_whose_labels_a_run_has_pays() {
        let account = |name: &str, pairs: &[(&str, &str)]| Account { name: name.into(), labels: labels(pairs) };
        let list = vec![
            account("acme-beta", &[("tenant", "acme"), ("feature", "beta")]),
            account("acme", &[("tenant", "acme")]),
        ];
        let accounts = Accounts { list, strict: false };
        let of = |pairs: &[(&str, &str)]| accounts.choose(&labels(pairs)).map(|name| name.map(ToString::to_string));
        assert_eq!(of(&[("tenant", "acme"), ("feature", "beta")]), Ok(Some("acme-beta".into())));
        assert_eq!(of(&[("tenant", "acme")]), Ok(Some("acme".into())));
        assert_eq!(of(&[("tenant", "other")]), Ok(None), "the provider's own key");
        let strict = Accounts { strict: true, ..accounts.clone() };
        assert_eq!(strict.choose(&labels(&[])), Err(NoAccount));
    }
}
