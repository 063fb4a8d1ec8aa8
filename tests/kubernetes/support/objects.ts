/** Objects as they are applied to an API server. Pods live in 10.0.0.0/8, where `PodNetwork` answers for them. */

import type { Manifest } from "./api-server.ts";

export interface IngressManifest extends Manifest {
  readonly spec: unknown;
}

export function namespace(name: string): Manifest {
  return { apiVersion: "v1", kind: "Namespace", metadata: { name } };
}

export function ingress(
  name: string,
  host: string,
  options: {
    readonly namespace?: string;
    readonly service?: string;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly ingressClassName?: string;
    readonly tlsSecret?: string;
  } = {},
): IngressManifest {
  const { ingressClassName, tlsSecret, annotations = {} } = options;
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "Ingress",
    metadata: { name, namespace: options.namespace ?? "default", annotations } as Manifest["metadata"],
    spec: {
      ...(ingressClassName === undefined ? {} : { ingressClassName }),
      ...(tlsSecret === undefined ? {} : { tls: [{ hosts: [host], secretName: tlsSecret }] }),
      rules: [
        {
          host,
          http: {
            paths: [
              {
                path: "/",
                pathType: "Prefix",
                backend: { service: { name: options.service ?? name, port: { number: 80 } } },
              },
            ],
          },
        },
      ],
    },
  };
}

export function service(name: string, inNamespace = "default"): Manifest {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: inNamespace },
    spec: { ports: [{ name: "http", port: 80, targetPort: 8080 }] },
  } as Manifest;
}

/** The slice of a Service with these endpoints, all ready. */
export function slice(name: string, addresses: readonly string[], inNamespace = "default"): Manifest {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: `${name}-1`,
      namespace: inNamespace,
      labels: { "kubernetes.io/service-name": name },
    },
    addressType: "IPv4",
    ports: [{ name: "http", port: 8080, protocol: "TCP" }],
    endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })),
  } as Manifest;
}

/** Everything that `http://host/` needs to be answered by these pods. */
export function app(name: string, host: string, addresses: readonly string[]): readonly Manifest[] {
  return [service(name), slice(name, addresses), ingress(name, host)];
}
