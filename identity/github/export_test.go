package github

import "net/http"

// Bearer returns what shows a token to one host only.
func Bearer(next http.RoundTripper, host, token string) http.RoundTripper {
	return bearer{next, host, token}
}
