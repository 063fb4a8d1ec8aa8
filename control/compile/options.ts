/** What an operator decides about compiling, beside the cluster's own objects. */

import type { ObjectName } from "../../edge-config/config.ts";

export interface CompileOptions {
  /** Only Ingresses of this class count. Absent: every Ingress counts, whatever its class. */
  readonly ingressClass?: string;
  /** The ConfigMap with the controller's settings. Default `ingress-nginx/ingress-nginx-controller`. */
  readonly configMap?: ObjectName;
  /** Where nginx and the Kubernetes specification disagree (the 301 to a trailing slash). Default `kubernetes`. */
  readonly compat?: "kubernetes" | "nginx";
  /** Loopback, link-local and metadata addresses may be endpoints. For `fairlead dev` alone. */
  readonly allowLocalAddresses?: boolean;
  /** Answers every request that no Ingress answers (ingress-nginx's `--default-backend-service`); its first port. */
  readonly defaultBackend?: ObjectName;
  /** The DNS domain of the cluster. Default `cluster.local`. */
  readonly clusterDomain?: string;
}

export const DEFAULT_CONFIG_MAP: ObjectName = "ingress-nginx/ingress-nginx-controller";
