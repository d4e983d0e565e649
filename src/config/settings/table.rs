//! The macro that makes of the table of settings whatever has to know their names.

/// Makes [`PoolConfig`](super::PoolConfig) with its fields, defaults and setters, and `SETTINGS`,
/// by which the file and the environment find a field by its name. An entry is
/// `name: type = default, Kind(range), "VARIABLE";`, where the range is in the unit of the variable
/// (milliseconds, bytes).
macro_rules! settings {
    ($(
        $(#[$doc:meta])*
        $name:ident: $type:ty = $default:expr, $kind:ident($range:expr), $variable:literal;
    )*) => {
        /// How a pool behaves.
        ///
        /// Durations can be at most 8760 hours (a year of 365 days), so that a deadline can always
        /// be worked out. A program sets what it wants to be different, by a method that is named
        /// as the setting is:
        ///
        /// ```
        /// use std::time::Duration;
        /// use sshpool::PoolConfig;
        ///
        /// let config = PoolConfig::default()
        ///     .max_connections(2)
        ///     .idle_timeout(Duration::from_secs(300));
        /// assert_eq!((config.max_connections, config.standby_sessions), (2, 2));
        /// ```
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub struct PoolConfig {
            $(
                $(#[$doc])*
                ///
                #[doc = concat!("Environment variable: `", $variable, "`.")]
                pub $name: $type,
            )*
            /// `connect_timeout` counts though the ssh_config's `ConnectTimeout` is longer. Set
            /// where a file, a variable or the method sets `connect_timeout`, and without a meaning
            /// where that is not its default; default false.
            pub keep_connect_timeout: bool,
        }

        impl Default for PoolConfig {
            fn default() -> Self {
                PoolConfig { $($name: $default,)* keep_connect_timeout: false }
            }
        }

        /// One method for each setting, which is not checked before [`validate`](Self::validate) or
        /// the making of a pool.
        impl PoolConfig {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name(mut self, $name: $type) -> Self {
                    self.$name = $name;
                    self.is_set(stringify!($name));
                    self
                }
            )*

            /// Whether `connect_timeout` counts though the ssh_config's `ConnectTimeout` is longer.
            #[must_use]
            pub fn keep_connect_timeout(mut self, keep_connect_timeout: bool) -> Self {
                self.keep_connect_timeout = keep_connect_timeout;
                self
            }
        }

        pub(super) static SETTINGS: &[Setting] = &[
            $(Setting {
                name: stringify!($name),
                variable: $variable,
                range: $range,
                field: |config| Field::$kind(&mut config.$name),
            },)*
        ];
    };
}
