package main

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

// exception names recorded calls whose answer is to differ from the recorded one.
type exception struct {
	file, label, method string // expressions for the whole
	path                string
	skip                bool   // the call is not made at all
	status              int    // the better answer
	has                 string // members of the better answer, as JSON
	why                 string
}

func (e *exception) String() string {
	return fmt.Sprintf("%s %s %s %s", e.file, e.label, e.method, e.path)
}

func exceptionFor(x exchange) *exception {
	for i := range exceptions {
		e := &exceptions[i]
		if matches(e.file, x.file) && matches(e.label, x.Label) && matches(e.method, x.Method) && matches(e.path, x.Path) {
			return e
		}
	}
	return nil
}

// matches reports whether all of text matches an expression; "" matches everything.
func matches(expression, text string) bool {
	return expression == "" || regexp.MustCompile("^(?:"+expression+")$").MatchString(text)
}

// judge returns what is wrong with an answer that should be the better one.
func (e *exception) judge(status int, body string) []string {
	if success(status) != success(e.status) {
		return []string{fmt.Sprintf("status %d, want %d", status, e.status)}
	}
	if e.has == "" {
		return nil
	}
	var want, got any
	if err := json.Unmarshal([]byte(e.has), &want); err != nil {
		return []string{"the exception: " + err.Error()}
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		return []string{err.Error()}
	}
	var c comparison
	c.compare("", want, got)
	return c.differences
}

// how the value of a member is compared.
type how int

const (
	typed  how = iota // it has the recorded JSON type: the value depends on the server
	absent            // it is not compared: the CLI does not read it
)

// field says how one member of an operation's answer is compared, and why.
type field struct {
	how how
	why string
}

// operation says how the answers of some calls are compared. Members that are not
// listed have the recorded value.
type operation struct {
	method string
	path   string // an expression for the whole path
	body   bool   // the CLI fails without a JSON body
	fields map[string]*field
}

func fieldsOf(x exchange) map[string]*field {
	all := map[string]*field{}
	for _, o := range operations {
		if o.method == x.Method && matches(o.path, x.Path) {
			maps.Copy(all, o.fields)
		}
	}
	return all
}

func needsBody(x exchange) bool {
	return slices.ContainsFunc(operations, func(o operation) bool {
		return o.body && o.method == x.Method && matches(o.path, x.Path)
	})
}

// comparison collects how an answer differs from the wanted one. The answer may have
// more members than that.
type comparison struct {
	fields      map[string]*field
	differences []string
	excused     []*field // that let a difference pass
}

func (c *comparison) compare(path string, want, got any) {
	f := c.fields[path]
	if f != nil && !reflect.DeepEqual(want, got) {
		c.excused = append(c.excused, f)
	}
	if f != nil && f.how == absent {
		return
	}
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok {
			c.differ(path, "is no object")
			return
		}
		for name, value := range want {
			member := strings.TrimPrefix(path+"."+name, ".")
			if have, ok := got[name]; ok {
				c.compare(member, value, have)
			} else if f := c.fields[member]; f != nil && f.how == absent {
				c.excused = append(c.excused, f)
			} else {
				c.differ(member, "is missing, recorded %.100v", value)
			}
		}
	case []any:
		got, ok := got.([]any)
		switch {
		case !ok:
			c.differ(path, "is no array")
		case f != nil:
		case path == "deployment.resources":
			c.resources(want, got)
		case len(got) != len(want):
			c.differ(path, "has %d items, recorded %d", len(got), len(want))
		default:
			for i := range want {
				c.compare(path+"[]", want[i], got[i])
			}
		}
	default:
		if list, ok := got.([]any); ok && want == nil && len(list) == 0 {
			return // null and an empty list are the same to the CLI
		}
		if reflect.TypeOf(want) != reflect.TypeOf(got) {
			c.differ(path, "is %.100v, recorded %.100v", got, want)
		} else if f == nil && want != got {
			c.differ(path, "is %.200v, recorded %.200v", got, want)
		}
	}
}

func (c *comparison) differ(path, format string, values ...any) {
	c.differences = append(c.differences, path+" "+fmt.Sprintf(format, values...))
}

// resources compares two lists of resources without their order, for which the only
// rule is that everything comes after what it needs.
func (c *comparison) resources(want, got []any) {
	index := func(list []any) map[string]any {
		all := map[string]any{}
		for _, item := range list {
			r, _ := item.(map[string]any)
			key := fmt.Sprint(r["urn"], " ", r["delete"] == true)
			if _, twice := all[key]; twice {
				c.differ("deployment.resources", "have %s twice", key)
			}
			all[key] = r
		}
		return all
	}
	wanted, have := index(want), index(got)
	for key := range have {
		if _, ok := wanted[key]; !ok {
			c.differ("deployment.resources", "have %s, the recorded ones do not", key)
		}
	}
	for key, r := range wanted {
		if have[key] == nil {
			c.differ("deployment.resources", "lack %s", key)
			continue
		}
		c.compare("deployment.resources[]", r, have[key])
	}
	seen := map[string]bool{}
	for _, item := range got {
		r, _ := item.(map[string]any)
		needed, _ := r["dependencies"].([]any)
		for _, urn := range append(slices.Clone(needed), r["parent"]) {
			if name, ok := urn.(string); ok && name != "" && !seen[name] {
				c.differ("deployment.resources", "have %v before %s, which it needs", r["urn"], name)
			}
		}
		if urn, ok := r["urn"].(string); ok {
			seen[urn] = true
		}
	}
}
