package audit

import (
	_ "embed"
	"maps"
	"slices"
	"strings"
)

// EventType is a kind of event that can be on record.
type EventType struct {
	Name        string // the ID: "stack-update-started"
	Title       string // "Stack Update Started"
	Category    string // "stacks"; see catalogue.txt
	Description string // one sentence for an administrator

	OrganizationAdmin     bool // only an organization's administrator can cause it
	StackAdmin            bool // only a stack's administrator can cause it
	AuthenticationFailure bool // a credential or permission was refused
}

//go:embed catalogue.txt
var catalogueText string

var catalogue = parseCatalogue(catalogueText)

// Catalogue returns every kind of event, ordered by name.
func Catalogue() []EventType {
	return slices.SortedFunc(maps.Values(catalogue), func(a, b EventType) int { return strings.Compare(a.Name, b.Name) })
}

// Describe returns the kind of event that has the ID name.
func Describe(name string) (EventType, bool) {
	t, ok := catalogue[name]
	return t, ok
}

// Lookup returns the ID for any spelling of an event's name that clients use:
// "stack-update-started", "Stack Update Started", "stack.update.started" and
// "stack.create" for "stack-created", in any case.
func Lookup(spelling string) (string, bool) {
	name := strings.NewReplacer(".", "-", " ", "-", "_", "-").Replace(strings.ToLower(strings.TrimSpace(spelling)))
	for _, ending := range []string{"", "d", "ed"} {
		if _, ok := catalogue[name+ending]; ok {
			return name + ending, true
		}
	}
	return "", false
}

// parseCatalogue reads catalogue.txt: a line "[category]" and below it lines of
// "name flags | description".
func parseCatalogue(text string) map[string]EventType {
	types := make(map[string]EventType)
	category := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasPrefix(line, "[") {
			category = strings.Trim(line, "[]")
			continue
		}
		head, description, _ := strings.Cut(line, "|")
		name, flags, _ := strings.Cut(strings.TrimSpace(head), " ")
		types[name] = EventType{
			Name: name, Title: title(name), Category: category, Description: strings.TrimSpace(description),
			OrganizationAdmin:     strings.Contains(flags, "A"),
			StackAdmin:            strings.Contains(flags, "S"),
			AuthenticationFailure: strings.Contains(flags, "F"),
		}
	}
	return types
}

// title returns the display name of an ID.
func title(name string) string {
	words := strings.Split(name, "-")
	for i, word := range words {
		switch word {
		case "saml", "oidc", "scim", "mfa":
			words[i] = strings.ToUpper(word)
		case "to", "for", "their":
		default:
			words[i] = strings.ToUpper(word[:1]) + word[1:]
		}
	}
	return strings.Join(words, " ")
}
