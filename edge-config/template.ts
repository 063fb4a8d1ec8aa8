/**
 * Text with variables, as annotations write it (`https://$host/auth?rd=$escaped_request_uri`), already parsed:
 * the edge joins pieces and never interprets text. The variables are a closed list; control refuses any other.
 */

/** Literal pieces and variables in turn; `["/auth?u=", { variable: "arg_u" }]`. */
export type Template = readonly (string | { readonly variable: Variable })[];

/** nginx's spelling and meaning (http://nginx.org/en/docs/varindex.html); the last four are followed by a lower-case name. */
export type Variable =
  | "args"
  | "escaped_request_uri"
  | "host"
  | "http_host"
  | "https"
  | "is_args"
  | "query_string"
  | "remote_addr"
  | "remote_user"
  | "request_id"
  | "request_method"
  | "request_uri"
  | "scheme"
  | "server_name"
  | "server_port"
  | "uri"
  | `arg_${string}`
  | `cookie_${string}`
  | `http_${string}`;
