/**
 * Whose word about the client counts, and what pods are told. Reference §0.7, §0.9; keys of the controller's ConfigMap.
 *
 * Cloudflare tells the client's address, and no header that a client can write changes it. What ingress-nginx calls
 * a trusted proxy is therefore one that stands in front of Cloudflare, and it must be named: ingress-nginx's default,
 * `proxy-real-ip-cidr: 0.0.0.0/0`, would let every client choose its own address here.
 */

import { cidrs, flag, headerName } from "../annotations/readers.ts";
import { defineFeature } from "./feature.ts";

const EVERYBODY: ReadonlySet<string> = new Set(["0.0.0.0/0", "::/0"]);
const DIFFERENCE = "Only of proxies that `proxy-real-ip-cidr` names; without it nobody is believed.";

export const forwarding = defineFeature("forwarding", {
  scope: "edge",
  onInvalid: "ignore",
  doc: "Whose word about a client's address, scheme and host counts, and what pods are told about it. Cloudflare tells the address by itself; the keys are for proxies in front of Cloudflare.",
  annotations: {},
  settings: {
    "use-forwarded-headers": flag(
      "Takes the client's address, and scheme, host and port, from `X-Forwarded-*`.",
      { default: false, difference: DIFFERENCE },
    ),
    "enable-real-ip": flag("Takes the client's address from `forwarded-for-header`.", {
      default: false,
      difference: DIFFERENCE,
    }),
    "proxy-real-ip-cidr": cidrs("The proxies in front of the edge that are believed.", {
      defaultText: "nobody",
      difference:
        "The default is nobody, and `0.0.0.0/0` counts as nobody: it would let clients choose their address.",
    }),
    "forwarded-for-header": headerName("Where a believed proxy tells the client's address.", {
      default: "X-Forwarded-For",
    }),
    "compute-full-forwarded-for": flag(
      "The pod gets the client's own `X-Forwarded-For` with the peer's address behind it, instead of the address alone.",
      { default: false },
    ),
    "generate-request-id": flag("A request without `X-Request-ID` gets one.", { default: true }),
    "proxy-add-original-uri-header": flag("The pod gets `X-Original-Uri`.", { default: false }),
  },
  compile(_annotations, { remark }, settings) {
    const named: readonly string[] = settings["proxy-real-ip-cidr"] ?? [];
    const trustsOthers = settings["use-forwarded-headers"];
    const asked = trustsOthers
      ? "use-forwarded-headers"
      : settings["enable-real-ip"]
        ? "enable-real-ip"
        : undefined;
    const trusted = asked === undefined ? [] : named.filter((cidr) => !EVERYBODY.has(cidr));
    if (asked !== undefined && trusted.length === 0) {
      remark(
        "warning",
        asked,
        "does nothing without proxies of your own in proxy-real-ip-cidr: Cloudflare tells the client's address already, and to believe everybody would let clients choose theirs.",
      );
    }
    const policy = {
      trusted,
      addressHeader: settings["forwarded-for-header"].toLowerCase(),
      trustsOthers: trustsOthers && trusted.length > 0,
      appends: settings["compute-full-forwarded-for"],
      makesRequestIds: settings["generate-request-id"],
      tellsOriginalUri: settings["proxy-add-original-uri-header"],
    };
    const isDefault =
      trusted.length === 0 && !policy.appends && policy.makesRequestIds && !policy.tellsOriginalUri;
    return isDefault ? undefined : policy;
  },
});
