"""The template as CloudFormation would see it for given parameters: no conditions, and each parameter is its value.

What only a deployment knows (ARNs, names of resources, the account) stays as it is.
"""

import re
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[2]

NOTHING = object()


class Loader(yaml.SafeLoader):
    """Reads the short forms of CloudFormation's functions."""


def _function(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt":
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", _function)


def load(path=PROJECT / "template.yaml"):
    return yaml.load(Path(path).read_text(), Loader)


class Renderer:
    """The template for one set of parameters in one region."""

    def __init__(self, template, parameters, region="eu-west-1"):
        unknown = parameters.keys() - template["Parameters"].keys()
        assert not unknown, f"the template has no parameters {sorted(unknown)}"
        self.template = template
        self.values = {name: parameters.get(name, entry.get("Default")) for name, entry in template["Parameters"].items()}
        self.region = region
        self.known_conditions = {}

    def condition(self, name):
        if name not in self.known_conditions:
            self.known_conditions[name] = self.holds(self.template["Conditions"][name])
        return self.known_conditions[name]

    def holds(self, expression):
        (function, value), = expression.items()
        match function:
            case "Condition":
                return self.condition(value)
            case "Fn::Equals":
                one, other = (self.region if part == {"Ref": "AWS::Region"} else self.resolve(part) for part in value)
                return str(one) == str(other)
            case "Fn::Contains":
                return self.resolve(value[1]) in value[0]
            case "Fn::Not":
                return not self.holds(value[0])
            case "Fn::And":
                return all(map(self.holds, value))
            case "Fn::Or":
                return any(map(self.holds, value))
        raise AssertionError(f"{function} is no condition")

    def broken_rules(self):
        """The messages of the rules that these parameters break."""
        broken = []
        for rule in self.template["Rules"].values():
            if "RuleCondition" in rule and not self.holds(rule["RuleCondition"]):
                continue
            broken += [each["AssertDescription"] for each in rule["Assertions"] if not self.holds(each["Assert"])]
        return broken

    def render(self):
        kept = {"AWSTemplateFormatVersion", "Transform", "Description", "Mappings", "Globals"}
        rendered = {key: self.resolve(value) for key, value in self.template.items() if key in kept}
        # A mapping that nothing refers to any more is not what this is about.
        for section in ("Resources", "Outputs"):
            rendered[section] = {}
            for name, entry in self.template[section].items():
                if "Condition" not in entry or self.condition(entry["Condition"]):
                    rendered[section][name] = self.resolve({key: value for key, value in entry.items() if key != "Condition"})
        if "Fn::FindInMap" not in str(rendered["Resources"]):
            del rendered["Mappings"]
        return rendered

    def resolve(self, node):
        if isinstance(node, list):
            return [value for value in map(self.resolve, node) if value is not NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            (function, value), = node.items()
            if function == "Ref":
                return NOTHING if value == "AWS::NoValue" else self.values.get(value, node)
            if function == "Fn::If":
                return self.resolve(value[1] if self.condition(value[0]) else value[2])
            if function.startswith("Fn::"):
                return self.call(function, value)
        resolved = {key: self.resolve(value) for key, value in node.items()}
        return {key: value for key, value in resolved.items() if value is not NOTHING}

    def call(self, function, value):
        if function == "Fn::Sub":
            return self.substitute(*([value] if isinstance(value, str) else value))
        value = self.resolve(value)
        if function == "Fn::Join" and all(isinstance(part, str) for part in value[1]):
            return value[0].join(value[1])
        if function == "Fn::Split" and isinstance(value[1], str):
            return value[1].split(value[0])
        return {function: value}

    def substitute(self, text, variables=None):
        left = {}

        def value_of(match):
            name = match[1]
            value = self.resolve(variables[name]) if variables and name in variables else self.values.get(name)
            if isinstance(value, dict) and "Fn::Sub" in value:
                return value["Fn::Sub"]
            if isinstance(value, dict):
                left[name] = value
            return match[0] if value is None or isinstance(value, dict) else str(value)

        text = re.sub(r"\$\{([^}]+)\}", value_of, text)
        if "${" not in text:
            return text
        return {"Fn::Sub": [text, left] if left else text}


def references(node):
    """The names that a rendered part refers to."""
    if isinstance(node, list):
        for value in node:
            yield from references(value)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "Ref":
                yield value
            elif key == "Fn::GetAtt":
                yield value[0]
            elif key == "DependsOn":
                yield from [value] if isinstance(value, str) else value
            elif key == "Fn::Sub":
                text, variables = (value, {}) if isinstance(value, str) else value
                names = (name.split(".")[0] for name in re.findall(r"\$\{([^}!]+)\}", text))
                yield from (name for name in names if name not in variables)
                yield from references(variables)
            else:
                yield from references(value)
