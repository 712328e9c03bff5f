package web

import (
	"slices"
	"strings"
)

// stateView is a state as pages show it.
type stateView struct {
	Outputs   []property // of the stack
	Resources []resource // in the order of a tree, each with its depth
	Count     int64      // of all, shown or not
	Matches   int64
	Cut       bool // there are more than a page shows
	Pending   []pendingOperation
	Bare      bool // too many to show their properties
}

type property struct {
	Name  string
	Value value
}

type resource struct {
	Name, Type, ID, URN string
	Depth               int // 1 and up
	Provider            bool
	Protected, Deleting bool
	External, Tainted   bool
	Inputs, Outputs     []property
	Parent              string
	Dependencies        []string
}

type pendingOperation struct{ Kind, Name, Type string }

// A page shows so many resources, and so many with their properties.
const (
	maxResources   = 5000
	maxProperties  = 600
	deepestIndent  = 8
	rootStackType  = "pulumi:pulumi:Stack"
	providerPrefix = "pulumi:providers:"
)

// viewState arranges a deployment as a tree by parent. Resources whose parent is
// missing, or that form a ring, are shown at the top.
func viewState(d *wireDeployment, search string) *stateView {
	s := &stateView{Count: int64(len(d.Resources))}
	for _, p := range d.Pending {
		s.Pending = append(s.Pending, pendingOperation{p.V.Type, shortURN(p.V.Resource.URN), p.V.Resource.Type})
	}
	resources := make([]wireResource, len(d.Resources))
	for i, r := range d.Resources {
		resources[i] = r.V
	}
	for _, r := range resources {
		if r.Type == rootStackType && !r.Delete {
			s.Outputs = properties(parseValue(r.Outputs))
		}
	}
	order := treeOrder(resources)
	s.Bare = len(order) > maxProperties && search == ""
	for _, place := range order {
		r := &resources[place.index]
		if !matches(r, search) {
			continue
		}
		s.Matches++
		if len(s.Resources) == maxResources {
			s.Cut = true
			continue
		}
		view := viewResource(r, place.depth)
		if search != "" {
			view.Depth = 1
		}
		if !s.Bare && len(s.Resources) < maxProperties {
			view.Inputs, view.Outputs = properties(parseValue(r.Inputs)), properties(parseValue(r.Outputs))
		}
		s.Resources = append(s.Resources, view)
	}
	return s
}

func viewResource(r *wireResource, depth int) resource {
	view := resource{
		Name: shortURN(r.URN), Type: r.Type, ID: r.ID, URN: r.URN, Depth: min(depth, deepestIndent),
		Provider: strings.HasPrefix(r.Type, providerPrefix), Protected: r.Protect, Deleting: r.Delete, External: r.External, Tainted: r.Taint,
		Parent: shortURN(r.Parent),
	}
	for _, urn := range r.Depends {
		view.Dependencies = append(view.Dependencies, shortURN(urn))
	}
	return view
}

func matches(r *wireResource, search string) bool {
	if search == "" {
		return true
	}
	search = strings.ToLower(search)
	return strings.Contains(strings.ToLower(shortURN(r.URN)+"\n"+r.Type+"\n"+r.ID), search)
}

type place struct{ index, depth int }

// treeOrder returns every resource once, parents before their children.
func treeOrder(resources []wireResource) []place {
	at := make(map[string]int, len(resources))
	for i, r := range resources {
		if _, ok := at[r.URN]; !ok || !r.Delete {
			at[r.URN] = i
		}
	}
	children := make(map[int][]int)
	var top []int
	for i, r := range resources {
		if parent, ok := at[r.Parent]; ok && r.Parent != "" && parent != i {
			children[parent] = append(children[parent], i)
		} else {
			top = append(top, i)
		}
	}
	// Providers are plumbing: they come last.
	slices.SortStableFunc(top, func(a, b int) int {
		return btoi(strings.HasPrefix(resources[a].Type, providerPrefix)) - btoi(strings.HasPrefix(resources[b].Type, providerPrefix))
	})
	order := make([]place, 0, len(resources))
	done := make([]bool, len(resources))
	// A stack of our own: a state may nest deeper than is good for recursion.
	visit := func(root int) {
		stack := []place{{root, 1}}
		for len(stack) > 0 {
			p := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if done[p.index] {
				continue
			}
			done[p.index] = true
			order = append(order, p)
			for _, child := range slices.Backward(children[p.index]) {
				stack = append(stack, place{child, p.depth + 1})
			}
		}
	}
	for _, i := range top {
		visit(i)
	}
	for i := range resources {
		if !done[i] { // in a ring
			visit(i)
		}
	}
	return order
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// properties returns the members of an object, sorted by name.
func properties(v value) []property {
	if v.kind == kindSecret {
		return []property{{"", v}}
	}
	var all []property
	for _, m := range v.members {
		if strings.HasPrefix(m.name, "__") {
			continue // the provider's own bookkeeping
		}
		all = append(all, property{m.name, m.value})
	}
	slices.SortFunc(all, func(a, b property) int { return strings.Compare(a.Name, b.Name) })
	return all
}
