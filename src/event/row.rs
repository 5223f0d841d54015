//! How the table of events is written: each entry makes a variant, its severity, its message, and its row.

/// One event of the stream, as documentation: shown by the man page.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Value of the key `event`.
    pub event: &'static str,
    /// Value of the key `severity`.
    pub severity: &'static str,
    /// When it happens.
    pub meaning: &'static str,
    /// Its further keys, in the order in which they stand, separated by `, `.
    pub keys: &'static str,
}

/// Makes of each entry a variant of [`Kind`], its severity, its message, and its row of [`TABLE`]. An entry is
///
/// ```text
/// /// What it means.
/// ("its_name", ItsSeverity) Variant { key: Type, … }
/// => its message, made of the keys
/// ```
///
/// After the severity may stand a condition without which it is another one, and the keys as people are told of them where these
/// are not the names of the fields.
macro_rules! events {
    ($(
        $(#[doc = $meaning:literal])+
        ($event:literal, $severity:ident $(if $usual:expr, else $unusual:ident)? $(, keys $told:literal)?)
        $name:ident { $($(#[$attribute:meta])* $key:ident: $type:ty),+ $(,)? }
        => $message:expr
    ),+ $(,)?) => {
        /// The events. Units of the fields: bytes, bytes a second, seconds; indices count from 0.
        #[derive(Clone, Debug, Serialize)]
        #[serde(tag = "event")]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "the fields are the keys, which the entry of each event explains")]
        pub enum Kind {
            $($(#[doc = $meaning])+ #[serde(rename = $event)] $name { $($(#[$attribute])* $key: $type),+ },)+
        }

        impl Kind {
            /// How much this event matters. It follows from the kind alone, but for `file_report`, where a
            /// file that is not as it should be is a warning.
            #[allow(unused_variables, reason = "few entries look at their fields")]
            pub fn severity(&self) -> Severity {
                match self {
                    $(Kind::$name { $($key),+ } => {
                        $(if !($usual) {
                            return Severity::$unusual;
                        })?
                        Severity::$severity
                    })+
                }
            }

            /// What happened, in plain English, safe to print.
            #[allow(unused_variables, reason = "few messages say everything")]
            pub fn message(&self) -> String {
                match self {
                    $(Kind::$name { $($key),+ } => $message,)+
                }
            }
        }

        /// Every event, in the order of [`Kind`].
        pub const TABLE: &[Row] = &[$(Row {
            event: $event,
            severity: Severity::$severity.as_str(),
            meaning: concat!($($meaning),+).trim_ascii_start(),
            keys: events!(@keys $($told)? [$($key),+]),
        }),+];
    };
    (@keys $told:literal [$($key:ident),+]) => { $told };
    (@keys [$first:ident $(, $key:ident)*]) => { concat!(stringify!($first) $(, ", ", stringify!($key))*) };
}

pub(super) use events;
