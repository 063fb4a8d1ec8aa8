/** How the edge speaks with pods (ingress-nginx `backend-protocol`). Absent: HTTP. */
export interface BackendProtocolPolicy {
  /** `auto`: as the client does. `grpc` and `grpcs` need HTTP/2 to the pod, which the gateway speaks. */
  readonly protocol: "https" | "auto" | "grpc" | "grpcs";
}
