/**
 * What no rule of HAProxy can say: take off the headers that `Connection` names. The action runs only for messages
 * that still have a `Connection` header (HAProxy itself settles `close` and `keep-alive`), so hardly ever.
 */
export const CONNECTION_HEADERS_SCRIPT = `-- Takes off the headers that Connection names (RFC 9110, section 7.6.1), but for Content-Length and X-...:
-- nobody shall make the identity of a client disappear. An upgrade stays.
local function settle(http, headers, remove, add)
    local upgrade = false
    local lines = headers["connection"]
    if lines == nil then return end
    for _, line in pairs(lines) do
        for word in string.gmatch(string.lower(line), "[^,%s]+") do
            if word == "upgrade" then
                upgrade = true
            elseif word ~= "content-length" and string.sub(word, 1, 2) ~= "x-"
                and word ~= "host" and word ~= "fairlead-token" and word ~= "connection" then
                remove(http, word)
            end
        end
    end
    remove(http, "connection")
    if upgrade then add(http, "connection", "upgrade") end
end

core.register_action("connection-headers", { "http-req" }, function(txn)
    local http = txn.http
    settle(http, http:req_get_headers(), http.req_del_header, http.req_add_header)
end)

core.register_action("connection-headers", { "http-res" }, function(txn)
    local http = txn.http
    settle(http, http:res_get_headers(), http.res_del_header, http.res_add_header)
end)
`;
