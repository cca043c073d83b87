//! Certificates that come by themselves.

use super::{Kind, Section, Setting};

pub(super) const ROWS: &[Setting] = &[
    Setting::new("domain", Section::Certificates, Kind::List)
        .flags(&["--domain"])
        .meta("NAME")
        .doc(
            "A name that this server is reached by. A certificate for it is ordered, kept and renewed; repeat it for \
             more names in the same certificate. Without `bind`, ports 80 and 443 are listened on: 443 speaks TLS, 80 \
             leads there. With `bind`, port 80 and addresses written as `http://HOST:PORT` are plain and lead to the \
             first of the others, which all speak TLS. Authorities look at port 80 of the name, or at 443 if there \
             is no plain address. A wildcard (`*.shop.example`) needs `acme_dns_hook`.",
        )
        .ours(),
    Setting::new("acme_directory", Section::Certificates, Kind::List)
        .flags(&["--acme-directory"])
        .meta("URL")
        .default(crate::model::acme::LETS_ENCRYPT)
        .doc(
            "The directory of the certification authority (ACME, RFC 8555). Repeated: the next is asked when one \
             fails. Who orders agrees to its terms of service.",
        )
        .ours(),
    Setting::new("acme_email", Section::Certificates, Kind::Text)
        .flags(&["--acme-email"])
        .meta("ADDRESS")
        .doc("Where the authority may write to.")
        .ours(),
    Setting::new("acme_ca_certs", Section::Certificates, Kind::Path)
        .flags(&["--acme-ca-certs"])
        .meta("FILE")
        .doc("Certificates by which the authority's own server is verified, for one of your own; else the system's.")
        .ours(),
    Setting::new("acme_eab_kid", Section::Certificates, Kind::Text)
        .flags(&["--acme-eab-kid"])
        .meta("ID")
        .doc("The identifier of a key by which the authority knows an account already (external account binding).")
        .ours(),
    Setting::new("acme_eab_hmac", Section::Certificates, Kind::Text)
        .flags(&["--acme-eab-hmac"])
        .meta("KEY")
        .env("ACME_EAB_HMAC")
        .doc("That key, base64url. Others see it on a command line; better is a settings file or the environment.")
        .ours(),
    Setting::new("acme_dns_hook", Section::Certificates, Kind::Path)
        .flags(&["--acme-dns-hook"])
        .meta("PROGRAM")
        .doc(
            "A program that puts a TXT record into the DNS, run as `PROGRAM present|cleanup RECORD VALUE`, without a \
             shell; it returns when the record is there. With it, names are proved by the DNS (`dns-01`), and \
             wildcards are possible.",
        )
        .ours(),
    Setting::new("on_demand_ask", Section::Certificates, Kind::Text)
        .flags(&["--on-demand-ask"])
        .meta("URL|PROGRAM")
        .doc(
            "Names that are no `domain`, but that clients ask for, get certificates of their own in the handshake, once \
             this has said that they may: a URL, of which `URL?domain=NAME` is got and has to be answered with a status \
             of 200 to 299 (others, redirects too, are a no), or a program, which is run as `PROGRAM NAME` and has to \
             end with status 0. It has 10 seconds, and a no holds for a minute. With nobody to ask there is no such \
             thing: anybody could have certificates ordered for any name. At most 100 are ordered in an hour, and \
             clients wait for one for 30 seconds. Works without a `domain` as well.",
        )
        .ours(),
    Setting::new("on_demand_names", Section::Certificates, Kind::Int(1, 100_000))
        .flags(&["--on-demand-names"])
        .meta("INT")
        .default("1000")
        .doc("How many names may have such certificates at once; for more, none is ordered before others have expired.")
        .ours(),
    Setting::new("acme_dir", Section::Certificates, Kind::Path)
        .flags(&["--acme-dir"])
        .meta("DIR")
        .doc(
            "Where accounts, certificates and keys are kept; instances that share it order once. Without it \
             `/var/lib/monoceros/acme` for root, else `monoceros/acme` in `$XDG_STATE_HOME` (`~/.local/state`).",
        )
        .ours(),
    Setting::new("tls", Section::Certificates, Kind::Words(&["off", "self"]))
        .flags(&["--tls"])
        .meta("MODE")
        .default("off")
        .doc(
            "`self`, for development: all addresses speak TLS, with a certificate for `localhost`, this machine's name \
             and each `domain`, signed by an authority of your own. Both are made once and kept in `acme_dir`, else \
             in `tls` beside what that is without being given; the start says how to trust them.",
        )
        .ours(),
];
