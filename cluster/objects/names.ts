/** The syntax of names, as the API server checks it (apimachinery `util/validation`). Each says undefined or what is wrong. */

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const PORT_NAME = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;

/** RFC 1123 label: namespaces, Services. */
export function isDnsLabel(text: string): boolean {
  return text.length <= 63 && LABEL.test(text);
}

/** RFC 1123 subdomain: labels with dots between, 253 characters at most (labels themselves are not limited, as in Kubernetes). */
export function isDnsSubdomain(text: string): boolean {
  return text.length <= 253 && text.split(".").every((label) => LABEL.test(label));
}

/** `*.` and a subdomain. */
export function isWildcardSubdomain(text: string): boolean {
  return text.startsWith("*.") && text.length <= 253 && isDnsSubdomain(text.slice(2));
}

/** IANA service name: at most 15 characters, a letter among them, no two hyphens in a row. Names of container and Service ports. */
export function isPortName(text: string): boolean {
  return text.length <= 15 && PORT_NAME.test(text) && /[a-z]/.test(text) && !text.includes("--");
}

/** Name of a Service port or of a port of an EndpointSlice: an RFC 1123 label. */
export function isServicePortName(text: string): boolean {
  return isDnsLabel(text);
}

export const DNS_LABEL_RULE =
  "lower-case letters, digits and hyphens, at most 63, with a letter or digit at both ends";
export const DNS_SUBDOMAIN_RULE =
  "lower-case letters, digits, hyphens and dots, with a letter or digit at both ends of each part";
