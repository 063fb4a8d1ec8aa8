/** Configurations in few words, for tests. */

import {
  ANY_HOST,
  type Backend,
  type EdgeConfig,
  type HostConfig,
  type Route,
} from "../../edge-config/config.ts";

/** A configuration of hosts whose routes are given by path: `{ "shop.example.com": { "/": ["127.0.0.1:80"] } }`. */
export function configOf(
  hosts: Readonly<
    Record<string, Readonly<Record<string, readonly string[] | Partial<Route & Pick<Backend, "endpoints">>>>>
  >,
  hostOptions: Readonly<Record<string, Partial<HostConfig>>> = {},
): EdgeConfig {
  const backends: Record<string, Backend> = {};
  const built: Record<string, HostConfig> = {};
  for (const [host, paths] of Object.entries(hosts)) {
    const routes: Route[] = [];
    for (const [path, given] of Object.entries(paths)) {
      const { endpoints, ...route }: Partial<Route & Pick<Backend, "endpoints">> = Array.isArray(given)
        ? { endpoints: given as readonly string[] }
        : (given as Partial<Route & Pick<Backend, "endpoints">>);
      const name = `default-${host === ANY_HOST ? "any" : host.replaceAll("*", "wild")}${path.replaceAll("/", "-")}-80`;
      if (endpoints !== undefined)
        backends[name] = {
          namespace: "default",
          service: name,
          port: "80",
          endpoints: [...endpoints].sort(),
        };
      routes.push({
        path,
        pathType: "Prefix",
        ingress: "default/test",
        ...(endpoints === undefined ? {} : { backend: name }),
        ...route,
      });
    }
    routes.sort(
      (left, right) => right.path.length - left.path.length || (left.pathType === "Exact" ? -1 : 1),
    );
    built[host] = { matching: "kubernetes", routes, ...hostOptions[host] };
  }
  return { version: 1, hosts: built, backends };
}
