//! The cases in which this library reads a file differently from go-zero, with the reason.

use serde_json::Value;

pub(crate) struct Difference {
    /// The names of the cases. `*` stands for any text.
    cases: &'static [&'static str],
    /// A part of the error that this library refuses the file with; `None` if it accepts the file.
    refused: Option<&'static str>,
    pub(crate) why: &'static str,
}

impl Difference {
    /// Returns whether the difference covers the case `name`.
    pub(crate) fn covers(&self, name: &str) -> bool {
        self.cases.iter().any(|case| match case.split_once('*') {
            None => *case == name,
            Some((start, end)) => {
                let rest = name.strip_prefix(start);
                rest.is_some_and(|rest| rest.ends_with(end))
            }
        })
    }

    /// Returns whether `ours` is the expected result.
    pub(crate) fn matches(&self, ours: &Result<Value, String>) -> bool {
        match (ours, self.refused) {
            (Err(message), Some(hint)) => message.contains(hint),
            (Ok(_), None) => true,
            _ => false,
        }
    }
}

pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        cases: &["client/endpoint-unix.yaml", "client/target-unix.yaml"],
        refused: Some("`"),
        why: "an instance has a host and a port: Unix sockets are not supported",
    },
    Difference {
        cases: &[
            "client/endpoint-without-port.yaml",
            "client/generated-endpoints-list.*",
            "client/generated-endpoints-mixed-list.yaml",
            "client/target-bare-without-port.yaml",
        ],
        refused: Some("cannot be used"),
        why: "go-zero dials an address without a port in vain, without an end",
    },
    Difference {
        cases: &[
            "client/generated-target-*",
            "client/target-bare-list.yaml",
            "client/target-unknown.yaml",
        ],
        refused: Some("not a channel target"),
        why: "gRPC in Go takes an unknown form for an address, and dials it in vain without an end",
    },
    Difference {
        cases: &[
            "client/target-consul.yaml",
            "client/target-nacos.yaml",
            "client/target-polaris.yaml",
        ],
        refused: Some("use a registry on etcd or Redis"),
        why: "only zero-contrib supports these",
    },
    Difference {
        cases: &["client/target-dns-name.yaml"],
        refused: None,
        why: "a name is resolved for each connection, not when the target is parsed",
    },
    Difference {
        cases: &["client/target-dns-server.yaml"],
        refused: Some("a DNS server in the target is not supported"),
        why: "only the system's resolver is used",
    },
    Difference {
        cases: &[
            "client/target-etcd-legacy-key.yaml",
            "client/target-etcd-legacy-option.yaml",
            "client/target-etcd-more-options.yaml",
        ],
        refused: Some("go-zero ignores them"),
        why: "go-zero ignores these options, even a key, although their author expects an effect",
    },
    Difference {
        cases: &["client/target-etcd-no-key.yaml"],
        refused: Some("not a channel target"),
        why: "without a key go-zero reads all of etcd's keys that begin with a slash",
    },
    Difference {
        cases: &["client/variable.yaml", "server/variable-in-*"],
        refused: Some("it contains a variable"),
        why: "without `conf.UseEnv` go-zero takes a variable literally: a server registers as `${ENV}/user.rpc`",
    },
    Difference {
        cases: &[
            "server/cert-with-empty-ca.yaml",
            "server/empty-cert-and-ca.yaml",
            "server/generated-ca-empty.*",
            "server/generated-ca-null.yaml",
        ],
        refused: Some("only some of `Etcd.CertFile`"),
        why: "go-zero connects without TLS, although the file names TLS files",
    },
    Difference {
        cases: &["server/http-host-with-tls-files.yaml"],
        refused: Some("would not use TLS"),
        why: "go-zero connects without TLS, although the file names TLS files",
    },
    Difference {
        cases: &["server/http-and-https-hosts.yaml"],
        refused: Some("mixes protocols"),
        why: "in go-zero the first host decides: TLS to all hosts, or to none",
    },
    Difference {
        cases: &[
            "server/empty-key.yaml",
            "server/generated-key-empty.*",
            "server/generated-key-null.yaml",
            "server/generated-hosts-empty-list.*",
        ],
        refused: Some("is missing: set it beside"),
        why: "go-zero silently does not register",
    },
    Difference {
        cases: &["server/generated-hosts-null-list.json", "server/generated-hosts-mixed-list.yaml"],
        refused: Some("`Etcd.Hosts` has an entry that is not"),
        why: "with an empty host go-zero does not register, or dials it in vain without an end",
    },
    Difference {
        cases: &["server/empty-listen-on.yaml", "server/generated-listen-on-*"],
        refused: Some("`ListenOn` cannot be used"),
        why: "go-zero listens on a port that it does not publish, or fails to listen once it has published",
    },
    Difference {
        cases: &["server/named-port.yaml"],
        refused: Some("`ListenOn` cannot be used"),
        why: "a published address needs a numeric port",
    },
    Difference {
        cases: &["server/hosts-twice.yaml"],
        refused: Some("given twice, in different case"),
        why: "go-zero takes either of them at random",
    },
    Difference {
        cases: &["server/name-twice.*"],
        refused: Some("given twice"),
        why: "go-zero takes the last one silently",
    },
    Difference {
        cases: &["server/two-documents.yaml", "server/two-values.json"],
        refused: Some("line=`"),
        why: "go-zero silently ignores everything after the first one",
    },
    Difference {
        cases: &["server/plain.json5"],
        refused: Some("the extension of the configuration file"),
        why: "go-zero reads JSON5 since 1.10; YAML covers almost all of it, so there is no parser for it here",
    },
    Difference {
        cases: &["server/skip-verify.yaml"],
        refused: Some("disables the verification of etcd's identity"),
        why: "without verification anyone in between can read and change everything: a second option must confirm it",
    },
];
