//! What a script of a world is made of.

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Kind {
    Start,
    Reserve,
    Settle,
    Child,
    EndChild,
    Expire,
    Land,
    Finish,
    Cancel,
    Ask,
    Park,
    Resume,
    Crash,
    Advance,
    StepBack,
    SetCap,
    Repeat,
    Unfreeze,
}

/// One command: numbers pick among what there is.
#[derive(Clone, Copy)]
pub(in super::super) struct Command {
    pub(in super::super) kind: Kind,
    pub(in super::super) pick: u8,
    pub(in super::super) size: u8,
    pub(in super::super) luck: u8,
}

impl std::fmt::Debug for Command {
    /// One line, however it is asked for: a failing script is read as a list.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}({}, {}, {})", self.kind, self.pick, self.size, self.luck)
    }
}
