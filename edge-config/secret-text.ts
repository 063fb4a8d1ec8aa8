/**
 * Text that must not lie in KV in the clear, such as the hash of a password.
 *
 * Control writes `{ secret }` into a policy; the publisher replaces it by `{ sealed }` (AES-GCM) when it
 * has a key; the Worker opens it. No other object of a configuration has a field of either name, so both
 * sides find them by walking the JSON.
 */
export type SecretText = { readonly secret: string } | { readonly sealed: string };
