package scim

import (
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// resource is a JSON object as it is sent and received. Names of attributes have no
// case (RFC 7643 §2.1): member looks them up.
type resource = map[string]any

// limit bounds a request body, compressed or not.
var limit = httpapi.Limit{Wire: 1 << 20, Decoded: 1 << 20}

// maxNesting bounds how deep a body nests; the schemas need 5.
const maxNesting = 16

// readObject reads the body of r, which must be one JSON object. Two readers must not
// disagree on it: a name that occurs twice, in whatever case, is refused.
func readObject(r *http.Request) (resource, error) {
	if text := r.Header.Get("Content-Type"); text != "" {
		media, _, err := mime.ParseMediaType(text)
		if err != nil || media != "application/scim+json" && media != "application/json" {
			return nil, errs.Errorf(errs.Unsupported, "send application/scim+json or application/json")
		}
	}
	body, err := httpapi.ReadBody(r, limit)
	if err != nil {
		return nil, err
	}
	if nesting(body) > maxNesting {
		return nil, refuse(invalidSyntax, "the request body nests deeper than %d", maxNesting)
	}
	var v any
	if err := httpapi.Decode(body, &v); err != nil {
		return nil, &failure{scimType: invalidSyntax, public: err}
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, refuse(invalidSyntax, "the request body must be a JSON object")
	}
	if name := ambiguous(object); name != "" {
		return nil, refuse(invalidSyntax, "the attribute %q occurs twice in one object", httpapi.Clean(name, 100))
	}
	return object, nil
}

// nesting returns how deep the objects and arrays of a JSON text are in each other.
func nesting(text []byte) int {
	depth, deepest, inside := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inside && c == '\\':
			i++
		case c == '"':
			inside = !inside
		case inside:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// ambiguous returns a name that v has twice but for its case, or "".
func ambiguous(v any) string {
	switch v := v.(type) {
	case map[string]any:
		seen := make(map[string]bool, len(v))
		for name, value := range v {
			if seen[fold(name)] {
				return name
			}
			seen[fold(name)] = true
			if found := ambiguous(value); found != "" {
				return found
			}
		}
	case []any:
		for _, value := range v {
			if found := ambiguous(value); found != "" {
				return found
			}
		}
	}
	return ""
}

// member returns the attribute of an object with a name, in whatever case.
func member(object map[string]any, name string) (any, bool) {
	if v, ok := object[name]; ok {
		return v, true
	}
	for key, v := range object {
		if fold(key) == fold(name) {
			return v, true
		}
	}
	return nil, false
}

// list returns the values of an attribute: of one with a single value, that.
func list(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

// names returns the names of an object in order, so that what depends on the order is
// the same each time.
func names(object map[string]any) []string {
	out := make([]string, 0, len(object))
	for name := range object {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// single unwraps [{"value": v}], as which Entra ID has sent the values of simple
// attributes.
func single(v any) any {
	if values, ok := v.([]any); ok && len(values) == 1 {
		v = values[0]
		if object, ok := v.(map[string]any); ok {
			if inner, ok := member(object, "value"); ok {
				return inner
			}
		}
	}
	return v
}

// Lengths of attributes, in characters.
const (
	maxText    = 255
	maxDisplay = 100 // of a group
	maxEmails  = 20
)

// textOf returns the text that attribute name is set to; null is none.
func textOf(name string, v any, limit int) (string, error) {
	switch v := single(v).(type) {
	case nil:
		return "", nil
	case string:
		text := strings.TrimSpace(v)
		if utf8.RuneCountInString(text) > limit {
			return "", refuse(invalidValue, "%s has at most %d characters", name, limit)
		}
		if strings.ContainsFunc(text, unicode.IsControl) {
			return "", refuse(invalidValue, "%s has control characters", name)
		}
		return text, nil
	}
	return "", refuse(invalidValue, "%s must be a string", name)
}

// boolOf returns the truth value that attribute name is set to. Entra ID sends it as a
// string.
func boolOf(name string, v any) (bool, error) {
	switch v := single(v).(type) {
	case bool:
		return v, nil
	case string:
		switch fold(v) {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
	}
	return false, refuse(invalidValue, "%s must be true or false", name)
}

// plausible reports whether text could be an ID. All that is not is not looked up.
func plausible(text string) bool {
	return text != "" && len(text) <= maxText && utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}
