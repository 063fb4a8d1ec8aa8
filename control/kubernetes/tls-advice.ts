/**
 * What to do about the TLS Secrets that Ingresses name. The edge has certificates of its own (Cloudflare's), which no
 * Secret of the cluster can replace from here; so nobody reads the private keys, and their owners are told.
 */

import type { Diagnostic } from "../../cluster/diagnostic.ts";
import type { ClusterModel, Ingress } from "../../cluster/model.ts";
import { whyNotOurs } from "../compile/ingress-class.ts";

/** For an Ingress that counts; the others' Secrets are none of our business. */
export function tlsAdvice(
  ingress: Ingress,
  classes: ClusterModel["ingressClasses"],
  ingressClass: string | undefined,
): readonly Diagnostic[] {
  if (ingress.tls.length === 0 || whyNotOurs(ingress, classes, ingressClass) !== undefined) return [];
  const { namespace, name } = ingress.meta;
  return ingress.tls.flatMap(({ secretName, hosts }, index) =>
    secretName === undefined
      ? []
      : {
          severity: "info",
          kind: "Ingress",
          object: `${namespace}/${name}`,
          field: `spec.tls[${index}].secretName`,
          message:
            `the Secret ${namespace}/${secretName} is not used: the edge answers for ` +
            `${hostList(ingress, hosts)} with the zone's own certificate; add the hosts to a Cloudflare edge certificate ` +
            "(Universal SSL covers names one level below the zone), or upload this one as a custom certificate",
        },
  );
}

function hostList(ingress: Ingress, hosts: readonly string[]): string {
  const all = hosts.length > 0 ? hosts : ingress.rules.map(({ host }) => host || "every host");
  const some = all.slice(0, 3).join(", ");
  return all.length > 3 ? `${some} and ${all.length - 3} more` : some || "every host";
}
