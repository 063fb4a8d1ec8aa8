/**
 * A service that is asked about every request. Reference §1, `auth-url` and what belongs to it; `global-auth-*`.
 * Whatever cannot be read or found denies the route.
 */

import type { ExternalAuthPolicy } from "../../edge-config/features/external-auth.ts";
import type { Template } from "../../edge-config/template.ts";
import { type Reader, type Reading, unreadable, value } from "../annotations/reader.ts";
import {
  flag,
  headerNames,
  isHeaderName,
  list,
  reference,
  template,
  text,
  url,
} from "../annotations/readers.ts";
import type { UrlText } from "../annotations/url.ts";
import { defineFeature, deny } from "./feature.ts";

const METHOD = { pattern: /^[A-Z]{1,20}$/, expected: "a method such as GET", type: "HTTP method" } as const;
const PARAMETER = { pattern: /^[A-Za-z0-9_-]{1,64}$/, expected: "the name of a parameter" } as const;

export const externalAuth = defineFeature("externalAuth", {
  scope: "route",
  onInvalid: "deny",
  doc: "Asks a service about every request, without its body: 2xx lets it pass, 401 and 403 go to the client, anything else is 500.",
  annotations: {
    "auth-url": url("The service that is asked; a Service of the cluster is reached like any backend."),
    "auth-method": text("The method of the question.", METHOD),
    "auth-signin": url("Where a client with 401 is sent, with 302."),
    "auth-signin-redirect-param": text(
      "Name of the parameter that tells the sign-in page where the client came from.",
      {
        ...PARAMETER,
        defaultText: "rd",
      },
    ),
    "auth-response-headers": headerNames(
      "Headers of the service's answer for the pod, in place of the client's.",
    ),
    "auth-proxy-set-headers": reference("A ConfigMap with further headers for the service.", "ConfigMap"),
    "auth-request-redirect": template("Value of `X-Auth-Request-Redirect` for the service.", {
      defaultText: "$request_uri",
    }),
    "auth-always-set-cookie": flag("Hands the service's cookies on even with errors of the pod.", {
      default: false,
      ignoreUnreadable: true,
    }),
    "auth-cache-key": template("Remembers answers under this key, beside host and route."),
    "auth-cache-duration": durations("How long an answer is remembered, by its status: `200 202 401 5m`."),
    "enable-global-auth": flag("`false` leaves the controller's `global-auth-url` out.", {
      default: true,
      unreadable: true,
    }),
  },
  settings: {
    "global-auth-url": url("As `auth-url`, for every route without one."),
    "global-auth-method": text("As `auth-method`, for `global-auth-url`.", METHOD),
    "global-auth-signin": url("As `auth-signin`, for `global-auth-url`."),
    "global-auth-signin-redirect-param": text(
      "As `auth-signin-redirect-param`, for `global-auth-url`.",
      PARAMETER,
    ),
    "global-auth-response-headers": headerNames("As `auth-response-headers`, for `global-auth-url`."),
    "global-auth-request-redirect": template("As `auth-request-redirect`, for `global-auth-url`."),
    "global-auth-always-set-cookie": flag("As `auth-always-set-cookie`, for `global-auth-url`.", {
      default: false,
    }),
    "global-auth-cache-key": template("As `auth-cache-key`, for `global-auth-url`."),
    "global-auth-cache-duration": durations("As `auth-cache-duration`, for `global-auth-url`."),
    "no-auth-locations": list("Paths of rules that are never guarded by an auth service.", {
      default: ["/.well-known/acme-challenge"],
      defaultText: "/.well-known/acme-challenge",
    }),
  },
  compile(annotations, context, settings) {
    const own = annotations["auth-url"];
    const service = own ?? (annotations["enable-global-auth"] ? settings["global-auth-url"] : undefined);
    if (service === undefined) {
      const alone = (["auth-signin", "auth-response-headers", "auth-cache-key"] as const).find(
        (name) => annotations[name] !== undefined,
      );
      if (alone !== undefined) context.remark("warning", alone, "does nothing without auth-url.");
      return undefined;
    }
    if (settings["no-auth-locations"].some((prefix) => context.path.startsWith(prefix))) return undefined;
    const resolved = context.destination(service);
    if (resolved.kind === "Missing") return deny(resolved.reason);

    const requestHeaders: (readonly [string, string])[] = [];
    const named = annotations["auth-proxy-set-headers"];
    if (own !== undefined && named !== undefined) {
      const found = context.configMap(named);
      if (found.kind === "Missing") return deny(found.reason, "auth-proxy-set-headers");
      for (const [name, content] of Object.entries(found.object.data).sort(([a], [b]) => (a < b ? -1 : 1))) {
        if (!isHeaderName(name))
          return deny(
            `ConfigMap ${found.name} has the key "${name}", which is no name of a header`,
            "auth-proxy-set-headers",
          );
        if (!/^[\t\x20-\x7e]{0,4096}$/.test(content))
          return deny(
            `ConfigMap ${found.name} has a value of ${name} that no header can have`,
            "auth-proxy-set-headers",
          );
        requestHeaders.push([name, content]);
      }
    }
    const from = own !== undefined ? valuesOf(annotations, "auth-") : valuesOf(settings, "global-auth-");
    const signin =
      from.signin === undefined ? undefined : signinPolicy(from.signin, from.redirectParameter ?? "rd");
    return {
      service: resolved.destination,
      ...(from.method === undefined ? {} : { method: from.method }),
      responseHeaders: from.responseHeaders ?? [],
      requestHeaders,
      ...(from.requestRedirect === undefined ? {} : { requestRedirect: from.requestRedirect }),
      ...(signin === undefined ? {} : { signin }),
      alwaysSetCookie: from.alwaysSetCookie,
      ...(from.cacheKey === undefined
        ? {}
        : { cache: { key: from.cacheKey, durations: from.cacheDurations ?? DEFAULT_DURATIONS } }),
    };
  },
});

type Durations = NonNullable<ExternalAuthPolicy["cache"]>["durations"];
const DEFAULT_DURATIONS: Durations = [{ statuses: [200, 202, 401], seconds: 300 }];

/** The same names under both prefixes. */
function valuesOf(values: Readonly<Record<string, unknown>>, prefix: "auth-" | "global-auth-") {
  return {
    method: values[`${prefix}method`] as string | undefined,
    signin: values[`${prefix}signin`] as UrlText | undefined,
    redirectParameter: values[`${prefix}signin-redirect-param`] as string | undefined,
    responseHeaders: values[`${prefix}response-headers`] as readonly string[] | undefined,
    requestRedirect: values[`${prefix}request-redirect`] as Template | undefined,
    alwaysSetCookie: values[`${prefix}always-set-cookie`] as boolean,
    cacheKey: values[`${prefix}cache-key`] as Template | undefined,
    cacheDurations: values[`${prefix}cache-duration`] as Durations | undefined,
  };
}

/** A URL that has the parameter already is left as it is. */
function signinPolicy(signin: UrlText, parameter: string): NonNullable<ExternalAuthPolicy["signin"]> {
  const host = signin.host.kind === "Literal" ? [signin.host.authority] : signin.host.template;
  const written = signin.target.map((piece) => (typeof piece === "string" ? piece : "")).join("");
  const hasParameter = new RegExp(`[?&]${parameter}=`).test(written);
  return {
    url: [`${signin.scheme}://`, ...host, ...signin.target],
    ...(hasParameter ? {} : { redirectParameter: parameter }),
  };
}

const UNITS: Readonly<Record<string, number>> = { "": 1, s: 1, m: 60, h: 3600, d: 86_400 };

/** nginx's proxy_cache_valid, groups separated by commas: statuses (or `any`, or none: 200, 301, 302), then a time. */
function durations(doc: string): Reader<Durations> {
  return {
    type: "comma-separated statuses and times",
    doc,
    maxLength: 512,
    options: { defaultText: "200 202 401 5m" },
    read: readDurations,
  };
}

function readDurations(given: string): Reading<Durations> {
  const found: { statuses: number[]; seconds: number }[] = [];
  for (const group of given.split(",")) {
    const words = group.trim().split(/\s+/);
    const [, amount, unit = ""] = /^([0-9]{1,9})([smhd]?)$/.exec(words.pop() ?? "") ?? [];
    const isAny = words.length === 1 && words[0] === "any";
    if (amount === undefined || (!isAny && !words.every((word) => /^[1-5][0-9]{2}$/.test(word)))) {
      return unreadable('groups of statuses and a time, such as "200 202 10m, 401 5m"');
    }
    const statuses = isAny ? [] : words.length === 0 ? [200, 301, 302] : words.map(Number);
    found.push({ statuses, seconds: Number(amount) * (UNITS[unit] ?? 1) });
  }
  return value(found);
}
