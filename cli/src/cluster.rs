//! The cluster of Kubernetes that a control plane runs in.

use std::{env, path::PathBuf};

use clap::{Args, builder::FalseyValueParser};
use control_plane::ClusterConfig;

use crate::usage;

/// What the control plane does for the cluster that it runs in.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Options {
    /// In Kubernetes: tell scale-down which agents are idle, by writing onto their pods how many
    /// sessions they have
    ///
    /// The service account of this pod needs the right to patch pods of its namespace.
    #[arg(long, env = "VENTUS_POD_DELETION_COST", value_parser = FalseyValueParser::new())]
    pub pod_deletion_cost: bool,
    /// Where the service account of this pod is mounted
    #[arg(
        long,
        env = "VENTUS_SERVICE_ACCOUNT",
        value_name = "PATH",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount"
    )]
    pub service_account: PathBuf,
}

impl Options {
    /// The cluster, if anything is to be done for it.
    ///
    /// # Errors
    ///
    /// When this is no pod of one.
    pub fn chosen(self) -> anyhow::Result<Option<ClusterConfig>> {
        if !self.pod_deletion_cost {
            return Ok(None);
        }
        // The kubelet tells every container where the API is.
        let told = |name: &str| {
            let none = || usage(format!("--pod-deletion-cost is for pods: {name} is not set"));
            env::var(name).ok().filter(|value| !value.is_empty()).ok_or_else(none)
        };
        let host = told("KUBERNETES_SERVICE_HOST")?;
        let port = told("KUBERNETES_SERVICE_PORT")?;
        let port = port.parse();
        let port = port.map_err(|_| usage("KUBERNETES_SERVICE_PORT is no port"))?;
        Ok(Some(ClusterConfig { host, port, service_account: self.service_account }))
    }
}
