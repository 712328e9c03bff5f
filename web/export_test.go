package web

import "net/url"

// Route is a method and pattern of the console, for tests that sweep over all.
type Route struct {
	Method, Pattern string
	Public          bool
}

func Routes() []Route {
	var all []Route
	for _, r := range routes() {
		all = append(all, Route{r.method, r.pattern, r.access != signedIn})
	}
	return all
}

var (
	ReturnTo = returnTo
	Plain    = plain
	Ago      = ago
	Took     = took
)

// Show returns the text that a page shows of a JSON value.
func Show(raw string) string { return parseValue([]byte(raw)).String() }

// Lookup follows a property path into a JSON value.
func Lookup(raw, path string) (string, bool) {
	v, ok := parseValue([]byte(raw)).lookup(path)
	return v.String(), ok
}

// CLIPort returns the port of a request of the pulumi command.
func CLIPort(query url.Values) (int, error) {
	c, err := parseCLIRequest(query)
	return c.Port, err
}
