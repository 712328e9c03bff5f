package journal

import "slices"

// feature is a set of the features that a deployment of schema version 4 declares.
type feature uint16

const (
	refreshBeforeUpdate feature = 1 << iota
	views
	hooks
	taint
	replaceWith
	snippetsPrototype
	extensionParameterization
	byteString
)

// featureNames are in alphabetical order, which is the order of the list.
var featureNames = []struct {
	name string
	bit  feature
}{
	{"byteString", byteString},
	{"extensionParameterization", extensionParameterization},
	{"hooks", hooks},
	{"refreshBeforeUpdate", refreshBeforeUpdate},
	{"replaceWith", replaceWith},
	{"snippets-prototype", snippetsPrototype},
	{"taint", taint},
	{"views", views},
}

func (f *feature) set(bit feature, on bool) {
	if on {
		*f |= bit
	} else {
		*f &^= bit
	}
}

// names returns the features and the foreign ones together, sorted.
func (f feature) names(foreign []string) []string {
	var names []string
	for _, n := range featureNames {
		if f&n.bit != 0 {
			names = append(names, n.name)
		}
	}
	names = append(names, foreign...)
	slices.Sort(names)
	return slices.Compact(names)
}

// featureBit returns the bit of a feature, or 0 when the name is unknown.
func featureBit(name string) feature {
	for _, n := range featureNames {
		if n.name == name {
			return n.bit
		}
	}
	return 0
}
