/**
 * TLS towards pods. Reference §1, `proxy-ssl-secret`, `proxy-ssl-verify`, `proxy-ssl-name`, `proxy-ssl-server-name`.
 *
 * As in ingress-nginx, the others do nothing without `proxy-ssl-secret`. Keys stay in the cluster: the configuration
 * names the Secret, and the gateway has it.
 */

import { onOff, reference, text } from "../annotations/readers.ts";
import { defineFeature, deny } from "./feature.ts";

export const upstreamTls = defineFeature("upstreamTls", {
  scope: "route",
  onInvalid: "deny",
  doc: "Shows pods a client certificate, and verifies theirs. The gateway does it: it needs the Secret, and the edge only its name.",
  annotations: {
    "proxy-ssl-secret": reference(
      "The Secret with `tls.crt` and `tls.key` for the gateway to show, and `ca.crt` to verify pods with.",
      "Secret",
      {
        difference:
          "The gateway must be given the Secret; with the transport `direct` the annotation has no effect.",
      },
    ),
    "proxy-ssl-verify": onOff("Whether pods' certificates are verified; 502 for one that is not right.", {
      default: false,
      defaultText: "off",
      // To verify is the closed side.
      unreadable: true,
    }),
    "proxy-ssl-name": text("The name that a pod's certificate must have.", {
      pattern: /^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/,
      expected: "a host name",
      defaultText: "the host of the request",
    }),
    "proxy-ssl-server-name": onOff("Whether the name is sent in the handshake (SNI).", {
      default: false,
      defaultText: "off",
      ignoreUnreadable: true,
    }),
  },
  compile(annotations, { secret, remark }) {
    const named = annotations["proxy-ssl-secret"];
    if (named === undefined) {
      if (annotations["proxy-ssl-verify"]) {
        remark(
          "warning",
          "proxy-ssl-verify",
          "does nothing without proxy-ssl-secret, as in ingress-nginx: pods' certificates are not verified.",
        );
      }
      return undefined;
    }
    const found = secret(named);
    if (found.kind === "Missing") return deny(found.reason, "proxy-ssl-secret");
    const { data } = found.object;
    if (!data.has("ca.crt") && !(data.has("tls.crt") && data.has("tls.key"))) {
      return deny(`Secret ${found.name} has neither ca.crt nor tls.crt and tls.key`, "proxy-ssl-secret");
    }
    const name = annotations["proxy-ssl-name"];
    return {
      secret: found.name,
      verifies: annotations["proxy-ssl-verify"],
      ...(name === undefined ? {} : { name }),
      sendsName: annotations["proxy-ssl-server-name"],
    };
  },
});
