/** What `npm start` prints: curl lines that work as they stand, each with a word on what it shows and what it answers. */

export interface Stop {
  readonly shows: string;
  /** Arguments of curl; `URL` stands for the edge. */
  readonly curl: string;
  /** What the output holds, for the test that runs every line. */
  readonly expect: RegExp;
}

export const TOUR: readonly Stop[] = [
  {
    shows: "two hosts of one Ingress, each with its own Service",
    curl: "-s -H 'Host: one.demo.k8s.gigantic.io' URL/",
    expect: /pod: service1-a[\s\S]*\nhost: one\.demo\.k8s\.gigantic\.io/,
  },
  { shows: "", curl: "-s -H 'Host: two.demo.k8s.gigantic.io' URL/", expect: /pod: service2-[ab]/ },
  {
    shows: "paths of one host, by path element",
    curl: "-s -H 'Host: paths.demo.k8s.gigantic.io' URL/foo/x",
    expect: /pod: service1-a\nGET \/foo\/x/,
  },
  {
    shows: "a path that no rule has: 404",
    curl: "-s -o /dev/null -w '%{http_code}\\n' -H 'Host: paths.demo.k8s.gigantic.io' URL/foobar",
    expect: /^404/,
  },
  {
    shows: "a host with a certificate: 308 to https",
    curl: "-s -o /dev/null -w '%{http_code} %{redirect_url}\\n' -H 'Host: secure.demo.k8s.gigantic.io' URL/",
    expect: /^308 https:\/\/secure\.demo\.k8s\.gigantic\.io/,
  },
  {
    shows: "CORS: a preflight is answered at the edge",
    curl: "-s -i -X OPTIONS -H 'Origin: https://a.example' -H 'Host: cors.demo.k8s.gigantic.io' URL/",
    expect: /204[\s\S]*access-control-allow-origin: \*/i,
  },
  {
    shows: "a rewrite: the pod sees /",
    curl: "-s -H 'Host: rewrite.demo.k8s.gigantic.io' URL/foo/bar",
    expect: /GET \/\n/,
  },
  {
    shows: "a limit: six requests at once, then 503",
    curl: "-s -o /dev/null -w '%{http_code} ' -H 'Host: limits.demo.k8s.gigantic.io' 'URL/?[1-9]'",
    expect: /^(?:200 ){6,7}(?:503 ){2,3}/,
  },
  {
    shows: "a pod that speaks TLS",
    curl: "-s -H 'Host: secure-backends.demo.k8s.gigantic.io' URL/",
    expect: /pod: service-tls-a/,
  },
  {
    shows: "an allowlist: 403, unless the client is on it",
    curl: "-s -o /dev/null -w '%{http_code}\\n' -H 'Host: whitelist.demo.k8s.gigantic.io' URL/",
    expect: /^403/,
  },
  {
    shows: "",
    curl: "-s -H 'CF-Connecting-IP: 10.0.0.7' -H 'Host: whitelist.demo.k8s.gigantic.io' URL/",
    expect: /pod: service1-a/,
  },
  {
    shows: "affinity: the cookie that keeps a client with its pod",
    curl: "-s -i -H 'Host: affinity.demo.k8s.gigantic.io' URL/",
    expect: /set-cookie: route=[0-9a-f]{40}; Path=\/; HttpOnly/i,
  },
];

/** A command line for a shell. */
export function commandOf({ curl }: Stop, url: string): string {
  return `curl ${curl.replaceAll("URL", url)}`;
}
