//! Modules on an IoT Edge device: what the runtime tells them by environment variables (rest.md 12.1).

mod workload;

use std::env;

use iothub_common::{DeviceConnectionString, Error, ErrorKind, Identity, Result, TlsConfig};

use crate::{
    builder::ModuleClientBuilder,
    credentials::{Given, SasProvider, SasRequest},
    module::ModuleClient,
};

pub(crate) use workload::Workload;

/// In the order in which they count.
const CONNECTION_STRINGS: [&str; 2] = ["EdgeHubConnectionString", "IotHubConnectionString"];
const CA_FILE: &str = "EdgeModuleCACertificateFile";
const GATEWAY: &str = "IOTEDGE_GATEWAYHOSTNAME";

/// Whom else to trust: a gateway has an authority of its own.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// Read from a file when the builder was made.
    Pem(Vec<u8>),
    /// To be asked for when it connects.
    Bundle(Workload),
}

impl Trust {
    pub(crate) async fn add_to(&self, tls: TlsConfig) -> Result<TlsConfig> {
        match self {
            Self::Pem(pem) => tls.ca_pem(pem),
            Self::Bundle(workload) => {
                let bundle = workload.trust_bundle().await?;
                tls.ca_pem(bundle.as_bytes())
                    .map_err(|e| e.context("the trust bundle of the Edge workload API cannot be used"))
            }
        }
    }
}

impl ModuleClient {
    /// Options for the module that this program is on an IoT Edge device, from its environment, then
    /// [`connect`](crate::ClientBuilder::connect). No I/O but reading a CA file.
    ///
    /// The variables are those of every Azure SDK. With `EdgeHubConnectionString` (or `IotHubConnectionString`), as
    /// the simulator sets it, that is used, and `EdgeModuleCACertificateFile` is trusted too. Else the workload API at
    /// `IOTEDGE_WORKLOADURI`, over a unix socket or HTTP, signs for the module and says whom to trust; also needed are
    /// `IOTEDGE_DEVICEID`, `IOTEDGE_MODULEID`, `IOTEDGE_MODULEGENERATIONID`, `IOTEDGE_IOTHUBHOSTNAME` and
    /// `IOTEDGE_AUTHSCHEME`, and `IOTEDGE_GATEWAYHOSTNAME` where there is a gateway.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput), naming the variables that are missing or wrong.
    pub fn from_edge_environment() -> Result<ModuleClientBuilder> {
        Self::from_edge_variables(|name| env::var(name).ok())
    }

    /// As [`from_edge_environment`](Self::from_edge_environment), with variables from elsewhere. One that is empty
    /// counts as not set.
    ///
    /// # Errors
    ///
    /// As [`from_edge_environment`](Self::from_edge_environment).
    pub fn from_edge_variables(get: impl Fn(&str) -> Option<String>) -> Result<ModuleClientBuilder> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        for name in CONNECTION_STRINGS {
            if let Some(connection_string) = get(name) {
                return from_connection_string(name, &connection_string, get(CA_FILE));
            }
        }
        from_workload(get)
    }
}

fn from_connection_string(
    name: &str,
    connection_string: &str,
    ca_file: Option<String>,
) -> Result<ModuleClientBuilder> {
    let usable = || {
        let parsed: DeviceConnectionString = connection_string.parse()?;
        parsed.require_module()?;
        Ok(parsed)
    };
    let parsed = usable().map_err(|e: Error| e.context(format!("{name} cannot be used")))?;
    let trust = match ca_file {
        None => None,
        Some(path) => {
            let failed = |e: Error| e.context(format!("{CA_FILE} does not name a usable CA file"));
            // Read once more below: that says what is wrong with it, this keeps what is right.
            TlsConfig::default().ca_file(&path).map_err(failed)?;
            let pem = std::fs::read(&path).map_err(|e| {
                Error::new(ErrorKind::InvalidInput, format!("the file {path} cannot be read")).with_source(e)
            });
            Some(Trust::Pem(pem.map_err(failed)?))
        }
    };
    Ok(ModuleClientBuilder::with(Given::from(parsed), trust))
}

fn from_workload(get: impl Fn(&str) -> Option<String>) -> Result<ModuleClientBuilder> {
    const NEEDED: [&str; 6] = [
        "IOTEDGE_WORKLOADURI",
        "IOTEDGE_DEVICEID",
        "IOTEDGE_MODULEID",
        "IOTEDGE_MODULEGENERATIONID",
        "IOTEDGE_IOTHUBHOSTNAME",
        "IOTEDGE_AUTHSCHEME",
    ];
    let values = NEEDED.map(&get);
    let [Some(uri), Some(device), Some(module), Some(generation), Some(hub), Some(scheme)] = values else {
        let missing: Vec<_> = NEEDED.into_iter().filter(|name| get(name).is_none()).collect();
        let text = match missing.len() {
            6 => "this program does not run as an IoT Edge module: neither EdgeHubConnectionString nor the \
                  IOTEDGE_ variables are set"
                .to_owned(),
            _ => format!(
                "the environment of this IoT Edge module is not complete: {} missing",
                missing.join(", ")
            ),
        };
        return Err(invalid(text));
    };
    if !scheme.eq_ignore_ascii_case("sasToken") {
        return Err(invalid(format!("IOTEDGE_AUTHSCHEME is `{scheme}`; only sasToken is known")));
    }
    let identity = Identity::module(device, module.as_str())
        .map_err(|e| e.context("IOTEDGE_DEVICEID or IOTEDGE_MODULEID is no id"))?;
    let workload = Workload::new(&uri, &module, &generation)
        .map_err(|e| e.context(format!("IOTEDGE_WORKLOADURI is `{uri}`, which cannot be used")))?;
    let mut given =
        Given::new(hub, identity).map_err(|e| e.context("IOTEDGE_IOTHUBHOSTNAME is no host name"))?;
    if let Some(gateway) = get(GATEWAY) {
        given.set_gateway(gateway).map_err(|e| e.context(format!("{GATEWAY} is no host name")))?;
    }
    let signer = workload.clone();
    given.provider = Some(SasProvider::new(move |request: SasRequest| {
        let signer = signer.clone();
        async move { signer.token(&request).await }
    }));
    Ok(ModuleClientBuilder::with(given, Some(Trust::Bundle(workload))))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::error::Error as _;

    use super::*;

    const ALL: [(&str, &str); 7] = [
        ("IOTEDGE_WORKLOADURI", "http://127.0.0.1:1"),
        ("IOTEDGE_DEVICEID", "d"),
        ("IOTEDGE_MODULEID", "m"),
        ("IOTEDGE_MODULEGENERATIONID", "1"),
        ("IOTEDGE_IOTHUBHOSTNAME", "hub.example.net"),
        ("IOTEDGE_AUTHSCHEME", "SASTOKEN"),
        ("IOTEDGE_GATEWAYHOSTNAME", "gateway"),
    ];

    /// All variables, with some of them changed; `-` takes one out.
    fn with(changes: &[(&str, &str)]) -> Result<ModuleClientBuilder> {
        ModuleClient::from_edge_variables(|name| {
            let value = changes.iter().chain(&ALL).find(|(known, _)| *known == name)?.1;
            (value != "-").then(|| value.to_owned())
        })
    }

    #[test]
    fn the_variables_of_the_runtime_are_enough() {
        let text = format!("{:?}", with(&[]).unwrap());
        for part in ["hub.example.net", "gateway", "module_id: Some(\"m\")"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(with(&[("IOTEDGE_GATEWAYHOSTNAME", "-")]).is_ok());
        assert!(with(&[("IOTEDGE_WORKLOADURI", "http://[::1]:8080/")]).is_ok());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (changes, says) in [
            (
                &[("IOTEDGE_DEVICEID", "-"), ("IOTEDGE_AUTHSCHEME", "")][..],
                "IOTEDGE_DEVICEID, IOTEDGE_AUTHSCHEME",
            ),
            (&[("IOTEDGE_AUTHSCHEME", "x509")], "`x509`"),
            (&[("IOTEDGE_MODULEID", "a/b")], "IOTEDGE_MODULEID"),
            (&[("IOTEDGE_IOTHUBHOSTNAME", "hub:5671")], "IOTEDGE_IOTHUBHOSTNAME"),
            (&[("IOTEDGE_GATEWAYHOSTNAME", "https://g")], "IOTEDGE_GATEWAYHOSTNAME"),
            (&[("IOTEDGE_WORKLOADURI", "ftp://x")], "IOTEDGE_WORKLOADURI"),
            (
                &[("EdgeHubConnectionString", "HostName=h;DeviceId=d;SharedAccessKey=QQ==")],
                "EdgeHubConnectionString",
            ),
            (&[("IotHubConnectionString", "nonsense")], "IotHubConnectionString"),
        ] {
            let error = with(changes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(says), "{error} has no `{says}`");
        }
        let error = ModuleClient::from_edge_variables(|_| None).unwrap_err();
        assert!(error.to_string().contains("does not run as an IoT Edge module"), "{error}");
    }

    #[test]
    fn a_connection_string_comes_first_with_its_ca_file() {
        const STRING: &str = "HostName=h;DeviceId=d;ModuleId=other;SharedAccessKey=QQ==;GatewayHostName=g";
        let builder = with(&[("EdgeHubConnectionString", STRING), ("IotHubConnectionString", "x")]).unwrap();
        assert!(format!("{builder:?}").contains("other"));
        let error = with(&[("EdgeHubConnectionString", STRING), (CA_FILE, "no/such/ca.pem")]).unwrap_err();
        assert!(error.to_string().contains(CA_FILE), "{error}");
        assert!(error.source().unwrap().to_string().contains("no/such/ca.pem"));
    }
}
