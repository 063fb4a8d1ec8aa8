/**
 * What surprises people who leave ingress-nginx, found where a manifest depends on it.
 *
 * In: an Ingress and what became of its hosts. Out: sentences. Each is a function of its own in the list below.
 * (Kubernetes blog, "Before you migrate from ingress-nginx", 2026-02-27, names most of them.)
 */

import type { Ingress } from "../../cluster/model.ts";
import { ANY_HOST, type EdgeConfig, type HostConfig, type ObjectName } from "../../edge-config/config.ts";
import { OLD_ANNOTATION_PREFIX } from "../annotations/group.ts";
import { quote } from "../annotations/readers.ts";
import type { CompileOptions } from "../compile/options.ts";
import { nameOf } from "../compile/order.ts";

export interface Surprise {
  readonly name: string;
  readonly message: string;
}

interface Subject {
  readonly ingress: Ingress;
  readonly name: ObjectName;
  readonly config: EdgeConfig;
  readonly options: CompileOptions;
  /** Does some Ingress of the host, by itself, ask for regular expressions? */
  readonly asksForRegex: (name: ObjectName) => boolean;
}

type Finder = (subject: Subject) => readonly string[];

const METACHARACTERS = /[\\^$*+?()[\]{}|]/;

function rulesOf(
  ingress: Ingress,
): readonly { readonly host: string; readonly path: string; readonly pathType: string }[] {
  return ingress.rules.flatMap((rule) =>
    (rule.paths ?? []).map(({ path, pathType }) => ({
      host: rule.host === "" ? ANY_HOST : rule.host,
      path,
      pathType,
    })),
  );
}

function hostsOf({ ingress, config }: Subject): readonly (readonly [string, HostConfig])[] {
  const names = new Set(ingress.rules.map(({ host }) => (host === "" ? ANY_HOST : host)));
  return [...names].flatMap((name) => {
    const host = config.hosts[name];
    return host === undefined ? [] : [[name, host] as const];
  });
}

const FINDERS: Readonly<Record<string, Finder>> = {
  "regex-leaks": (subject) =>
    hostsOf(subject).flatMap(([host, { matching, routes }]) => {
      if (matching !== "regex" || subject.asksForRegex(subject.name)) return [];
      const owner = routes.find(
        ({ ingress }) => ingress !== undefined && subject.asksForRegex(ingress),
      )?.ingress;
      return [
        `Every path of host ${quote(host)} is a case-insensitive regular expression that only its start is bound to, because Ingress ${owner ?? "another one"} asks for that; so \`/foo\` of this Ingress takes \`/FOObar\` too, Exact or not, as in ingress-nginx.`,
      ];
    }),
  "regex-is-not-exact": (subject) =>
    subject.asksForRegex(subject.name)
      ? rulesOf(subject.ingress)
          .filter(({ pathType }) => pathType === "Exact")
          .map(
            ({ path }) =>
              `The Exact path ${quote(path)} is a regular expression like the others of its host, so it takes longer paths too, as in ingress-nginx.`,
          )
      : [],
  "no-regex-without-asking": (subject) =>
    rulesOf(subject.ingress)
      .filter(
        ({ host, path }) => METACHARACTERS.test(path) && subject.config.hosts[host]?.matching !== "regex",
      )
      .map(
        ({ path, pathType }) =>
          `The path ${quote(path)} (${pathType}) looks like a regular expression, but nothing on its host asks for those (\`use-regex\`, \`rewrite-target\`), so it is plain text, as in ingress-nginx.`,
      ),
  "implementation-specific": (subject) => {
    const paths = rulesOf(subject.ingress).filter(
      ({ host, pathType }) =>
        pathType === "ImplementationSpecific" && subject.config.hosts[host]?.matching !== "regex",
    );
    if (paths.length === 0) return [];
    return [
      `ImplementationSpecific means Prefix, by path element (${paths.map(({ path }) => quote(path)).join(", ")}), as in ingress-nginx; other controllers differ.`,
    ];
  },
  "trailing-slash": ({ ingress, config, options }) =>
    rulesOf(ingress)
      .filter(
        ({ host, path }) => path.length > 1 && path.endsWith("/") && config.hosts[host]?.matching !== "regex",
      )
      .map(({ path, pathType }) => {
        const bare = quote(path.slice(0, -1));
        if (options.compat === "nginx")
          return `A request for ${bare} is sent to ${quote(path)} with 301, as by nginx.`;
        return `nginx sends a request for ${bare} to ${quote(path)} with 301; here, by the Kubernetes specification, ${
          pathType === "Exact" ? "it does not match (404)" : "it matches"
        }. \`--compat nginx\` keeps the 301.`;
      }),
  "wildcard-is-one-label": ({ ingress }) =>
    ingress.rules
      .filter(({ host }) => host.startsWith("*."))
      .map(
        ({ host }) =>
          `${quote(host)} takes one label only: \`a${host.slice(1)}\`, not \`a.b${host.slice(1)}\` and not \`${host.slice(2)}\`, as in ingress-nginx.`,
      ),
  "default-backend-is-its-own-hosts": ({ ingress }) =>
    ingress.defaultBackend !== undefined && ingress.rules.some(({ host }) => host !== "")
      ? [
          "Its default backend answers for the hosts of this Ingress only, not for unknown hosts, as in ingress-nginx.",
        ]
      : [],
  "old-rewrite": ({ ingress }) => {
    const { annotations } = ingress.meta;
    const target =
      annotations["nginx.ingress.kubernetes.io/rewrite-target"] ??
      annotations["ingress.kubernetes.io/rewrite-target"];
    if (target === undefined || /\$[0-9]/.test(target) || ingress.apiVersion === "networking.k8s.io/v1")
      return [];
    return [
      `rewrite-target ${quote(target)} has no $1: before ingress-nginx 0.22 it replaced the beginning of the path and kept the rest, since then it is the whole new path. This manifest (${ingress.apiVersion}) may be of the time before.`,
    ];
  },
  "old-prefix": ({ ingress }) => {
    const old = Object.keys(ingress.meta.annotations).filter((key) => key.startsWith(OLD_ANNOTATION_PREFIX));
    if (old.length === 0) return [];
    return [
      `ingress-nginx stopped reading ${OLD_ANNOTATION_PREFIX}… in 0.9; here it counts, so ${old.length === 1 ? "an annotation" : `${old.length} annotations`} may come to life again.`,
    ];
  },
};

export function findSurprises(
  ingress: Ingress,
  config: EdgeConfig,
  options: CompileOptions,
  asksForRegex: Subject["asksForRegex"],
): readonly Surprise[] {
  const subject: Subject = { ingress, name: nameOf(ingress), config, options, asksForRegex };
  return Object.entries(FINDERS).flatMap(([name, find]) =>
    [...new Set(find(subject))].map((message) => ({ name, message })),
  );
}
