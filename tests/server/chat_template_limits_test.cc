// What a hostile chat template, or a hostile client of a sound one, cannot do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <time.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/chat_template/chat_template.h"

namespace pregate {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

// Sanitizers make frames several times as large.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kSmallStack = 2 << 20;
constexpr double kSlowdown = 20;
#else
constexpr size_t kSmallStack = 256 << 10;
constexpr double kSlowdown = 1;
#endif

// Runs `body` on a thread with little stack, as a server may give its threads.
void OnSmallStack(const std::function<void()>& body) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, kSmallStack), 0);
  pthread_t thread;
  const auto run = [](void* f) -> void* {
    (*static_cast<const std::function<void()>*>(f))();
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, &attributes, run, const_cast<std::function<void()>*>(&body)),
            0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

double ThreadSeconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

std::string Repeat(const std::string& text, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) result += text;
  return result;
}

ChatInput Input(const std::string& content = "hi") {
  ChatInput input;
  input.messages = Json::array({{{"role", "user"}, {"content", content}}});
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  return input;
}

absl::StatusOr<std::vector<RenderedSegment>> Render(const std::string& source,
                                                    const ChatInput& input = Input()) {
  const absl::StatusOr<ChatTemplate> parsed = ChatTemplate::Parse(source);
  if (!parsed.ok()) return parsed.status();
  return parsed->Render(input);
}

std::string Text(const absl::StatusOr<std::vector<RenderedSegment>>& segments) {
  std::string text;
  for (const RenderedSegment& segment : *segments) text += segment.text;
  return text;
}

// Row V9: templates nested without end, on a stack of 256 KiB.
TEST(ChatTemplateV9, DeepNestsAreRefusedOnASmallStack) {
  struct Nest {
    std::string open, inside, close;
  };
  const Nest nests[] = {
      {"(", "1", ")"},          {"[", "1", "]"},           {"{1:", "1", "}"},
      {"-", "1", ""},           {"not ", "1", ""},         {"f(", "1", ")"},
      {"x[", "1", "]"},         {"1 if ", "1", " else 1"}, {"1 if 1 else ", "1", ""},
      {"x|default(", "1", ")"}, {"1 is eq(", "1", ")"},    {"", "x", ".x"},
      {"", "x", "[0]"},         {"", "x", "()"},           {"", "x", "|e"},
      {"", "x", " if 1"},       {"2**(", "1", ")"},        {"(1,", "1", ")"},
      {"x[1:", "1", "]"},       {"", "x", " is defined"}};
  const Nest tags[] = {{"{% if 1 %}", "", "{% endif %}"},
                       {"{% for x in y %}", "", "{% endfor %}"},
                       {"{% macro m() %}", "", "{% endmacro %}"},
                       {"{% filter upper %}", "", "{% endfilter %}"},
                       {"{% set x %}", "", "{% endset %}"},
                       {"{% call m() %}", "", "{% endcall %}"},
                       {"{% with %}", "", "{% endwith %}"},
                       {"{% generation %}", "", "{% endgeneration %}"},
                       {"{% if 1 %}{% else %}", "", "{% endif %}"},
                       {"{% for x in y %}{% else %}", "", "{% endfor %}"},
                       {"{% set ((", "x", "), y), z = 1 %}"}};
  OnSmallStack([&] {
    // 6,000 levels, 12 KB, 250 KB, 1 MB.
    for (const size_t bytes : {size_t{12} << 10, size_t{250} << 10, size_t{1} << 20}) {
      const auto check = [&](const Nest& nest, const std::string& before,
                             const std::string& after) {
        const int levels = static_cast<int>(bytes / (nest.open.size() + nest.close.size()));
        const std::string source = absl::StrCat(before, Repeat(nest.open, levels), nest.inside,
                                                Repeat(nest.close, levels), after);
        const absl::StatusOr<ChatTemplate> parsed = ChatTemplate::Parse(source);
        EXPECT_EQ(parsed.status().code(), absl::StatusCode::kFailedPrecondition)
            << nest.open << nest.close << ": " << parsed.status();
      };
      for (const Nest& nest : nests) check(nest, "{{ ", " }}");
      for (const Nest& nest : tags) check(nest, "", "");
    }
    EXPECT_FALSE(ChatTemplate::Parse("{{ " + Repeat("(", 6000) + Repeat(")", 6000) + "}}").ok());
  });
}

TEST(ChatTemplateV9, WhatIsDeepButAllowedRunsOnASmallStack) {
  OnSmallStack([] {
    const auto nested = [](const std::string& open, const std::string& inside,
                           const std::string& close, int levels) {
      return Repeat(open, levels) + inside + Repeat(close, levels);
    };
    const auto ok = [](const std::string& source) {
      const auto text = Render(source);
      EXPECT_TRUE(text.ok()) << source << ": " << text.status();
      return text.ok() ? Text(text) : "";
    };
    EXPECT_EQ(ok("{{ " + nested("(", "7", ")", 25) + " }}"), "7");
    EXPECT_EQ(ok("{{ " + nested("[", "7", "]", 25) + " }}").size(), 51u);
    EXPECT_EQ(ok(nested("{% if true %}", "7", "{% endif %}", 50)), "7");
    EXPECT_EQ(ok(nested("{% for i in [1] %}", "7", "{% endfor %}", 50)), "7");
    EXPECT_EQ(ok("{% macro m(n) %}{% if n > 0 %}({{ m(n - 1) }}){% endif %}{% endmacro %}"
                 "{{ m(20) }}"),
              Repeat("(", 20) + Repeat(")", 20));
    // Beyond that a macro that calls itself ends with an error, not with the stack.
    const auto endless = Render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    EXPECT_THAT(std::string(endless.status().message()), HasSubstr("nested deeper than"));
    const auto by_filter = Render(
        "{% macro m() %}{% filter upper %}{% if 1 %}{% set a %}{{ [m() ~ (m() | trim)] | map("
        "'upper') | first }}{% endset %}{% endif %}{% endfilter %}{% endmacro %}{{ m() }}");
    EXPECT_THAT(std::string(by_filter.status().message()), HasSubstr("nested deeper than"));
  });
}

TEST(ChatTemplateV9, ValuesHaveADepthToo) {
  OnSmallStack([] {
    const auto built = Render(
        "{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}"
        "{% endfor %}{{ ns.x }}");
    EXPECT_THAT(std::string(built.status().message()), HasSubstr("nested too deeply"));
    // The deepest that can be built, printed, written as JSON, compared and sorted.
    const auto deepest = Render(
        "{% set ns = namespace(x=[], y=[]) %}{% for i in range(62) %}{% set ns.x = [ns.x] %}"
        "{% set ns.y = [ns.y] %}{% endfor %}{{ ns.x }}{{ ns.x | tojson }}{{ ns.x == ns.y }}"
        "{{ [ns.x, ns.y] | sort }}");
    EXPECT_TRUE(deepest.ok()) << deepest.status();
    ChatInput input = Input();
    Json deep = Json::array();
    for (int i = 0; i < 5000; ++i) deep = Json::array({std::move(deep)});
    input.variables["deep"] = std::move(deep);
    const auto given = Render("{{ deep }}", input);
    EXPECT_EQ(given.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(given.status().message()), HasSubstr("deep: must be JSON"));
  });
}

// Row V10: what known attacks on servers that render Jinja reach for is not there.
TEST(ChatTemplateV10, NothingOutsideCanBeReached) {
  // Every one of these either fails or prints nothing.
  const char* const attacks[] = {
      "{{ ''.__class__ }}",
      "{{ ''.__class__.__mro__[1].__subclasses__() }}",
      "{{ [].__class__.__base__.__subclasses__() }}",
      "{{ ().__class__.__bases__[0].__subclasses__()[140].__init__.__globals__ }}",
      "{{ messages.__init__ }}",
      "{{ messages['__class__'] }}",
      "{{ messages[0].__class__.__init__.__globals__['os'].system('id') }}",
      "{{ messages | attr('__class__') }}",
      "{{ '%s' | format(''.__class__) }}",
      "{{ '{0.__class__}'.format('') }}",
      "{{ '{0.__class__.__mro__}'.format(messages) }}",
      "{{ '{x[a]}'.format(x={'a': 1}) }}",
      "{{ ''.format_map({}) }}",
      "{{ self }}",
      "{{ self._TemplateReference__context.cycler.__init__.__globals__.os.popen('id').read() }}",
      "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
      "{{ joiner.__init__.__globals__.os }}",
      "{{ lipsum.__globals__['os'].popen('id').read() }}",
      "{{ namespace.__init__.__globals__ }}",
      "{{ range.__class__ }}",
      "{{ dict.__base__ }}",
      "{{ raise_exception.__globals__ }}",
      "{{ strftime_now.__globals__ }}",
      "{{ loop.__class__ }}",
      "{% for m in messages %}{{ loop.__class__ }}{{ loop._iterable }}{% endfor %}",
      "{% macro m() %}{{ m.__globals__ }}{{ caller.__code__ }}{% endmacro %}{{ m() }}",
      "{{ config }}",
      "{{ request.application.__globals__ }}",
      "{{ get_flashed_messages.__globals__ }}",
      "{{ url_for.__globals__ }}",
      "{{ open('/etc/passwd').read() }}",
      "{{ __import__('os').system('id') }}",
      "{{ eval('1') }}",
      "{{ exec('1') }}",
      "{{ getattr('', 'upper') }}",
      "{{ globals() }}",
      "{{ print('x') }}",
      "{{ input() }}",
      "{{ os.environ }}",
      "{{ environ }}",
      "{{ getenv('HOME') }}",
      "{{ 'x' | pprint }}",
      "{{ 'x' | xmlattr }}",
      "{{ 'file:///etc/passwd' | urlize }}",
      "{{ gettext('x') }}",
      "{% include '/etc/passwd' %}",
      "{% import 'os' as os %}",
      "{% from 'os' import system %}",
      "{% extends '/etc/passwd' %}",
      "{% block x %}{% endblock %}",
      "{% autoescape false %}{% endautoescape %}",
      "{% do messages.append(1) %}",
      "{% debug %}",
      "{% trans %}x{% endtrans %}",
  };
  for (const char* source : attacks) {
    const auto segments = Render(source);
    EXPECT_TRUE(!segments.ok() || Text(segments).empty()) << source << ": " << Text(segments);
  }
}

TEST(ChatTemplateV10, NothingThatIsGivenCanBeChanged) {
  for (const char* source :
       {"{{ messages.append(1) }}", "{{ messages.pop() }}", "{{ messages.clear() }}",
        "{{ messages.sort() }}", "{{ messages.insert(0, 1) }}", "{{ messages.extend([1]) }}",
        "{{ messages.reverse() }}", "{{ messages.remove(1) }}", "{{ messages[0].update({}) }}",
        "{{ messages[0].pop('role') }}", "{{ messages[0].setdefault('a', 1) }}",
        "{{ messages[0].clear() }}", "{{ messages[0].popitem() }}", "{% set messages[0] = 1 %}",
        "{% set messages.x = 1 %}", "{% set bos_token.x = 1 %}"}) {
    EXPECT_FALSE(Render(source).ok()) << source;
  }
  // Names are set for one rendering only.
  const auto parsed = ChatTemplate::Parse("{{ x }}{% set x = messages[0].content %}{{ x }}");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Text(parsed->Render(Input())), "hi");
}

// A template of the model's file is data: what a client sends is never read as one.
TEST(ChatTemplateV10, ClientTextIsNotATemplate) {
  for (const char* content : {"{{ 7 * 7 }}", "{% if x %}", "{# #}", "{{", "%}", "{{ messages }}"}) {
    EXPECT_EQ(Text(Render("{{ messages[0].content }}", Input(content))), content);
    EXPECT_EQ(Text(Render("{% set x %}{{ messages[0].content }}{% endset %}{{ x | trim }}",
                          Input(content))),
              content);
  }
}

struct Bomb {
  const char* name;
  std::string source;
};

std::string Loop(const std::string& body) {
  return "{% for i in range(100000) %}" + body + "{% endfor %}";
}

const char kNamespace[] = "{% set ns = namespace(x=['a'], s='aaaaaaaa') %}";

// Sizes that explode.
std::vector<Bomb> Explosions() {
  const std::string ns = kNamespace;
  return {
      {"loops in loops", "{% for a in range(9999) %}" + Loop("") + "{% endfor %}"},
      {"loops in expressions", Loop("{{ range(100000) | list | length }}")},
      {"a list that doubles", ns + Loop("{% set ns.x = ns.x + ns.x %}")},
      {"a string that doubles", ns + Loop("{% set ns.s = ns.s + ns.s %}")},
      {"a string that doubles by join", ns + Loop("{% set ns.s = ns.s ~ ns.s %}")},
      {"a value that is its own double", ns + Loop("{% set ns.x = [ns.x, ns.x] %}") + "{{ ns.x }}"},
      {"doubles, printed", ns + "{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
                                "{{ ns.x }}"},
      {"doubles, compared",
       ns + "{% set ns.y = ['a'] %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
            "{% set ns.y = {'a': ns.y, 'b': ns.y} %}{% endfor %}{{ ns.x == ns.y }}"},
      {"a long string, repeated", "{{ 'a' * 1000000000 }}"},
      {"a list, repeated", "{{ [1] * 1000000000 }}"},
      {"a long range", "{{ range(10000000000) | list }}"},
      {"a large power", Loop("{{ 3 ** 9223372036854775807 }}")},
      {"a power of one", Loop("{{ 1 ** 9223372036854775807 }}")},
      {"endless output", Loop("{{ 'a' * 100000 }}")},
      {"endless plain output", Loop(Repeat("x", 1000))},
  };
}

// Work on long values, again and again. `ns.s` has 4 MiB.
std::vector<Bomb> Labours() {
  const std::string ns = kNamespace;
  const std::string grow = ns + "{% for i in range(19) %}{% set ns.s = ns.s + ns.s %}{% endfor %}";
  return {
      {"a great many of a long string", grow + "{% set l = [ns.s] * 500000 %}{{ l }}"},
      {"many searches", grow + Loop("{{ ('b' ~ ns.s) in ns.s }}")},
      {"a search of squared time",
       grow + "{% set t = ns.s[2000000:] ~ 'b' ~ ns.s[2000000:] %}" + Loop("{{ t in ns.s }}")},
      {"a backward search of squared time",
       grow + "{% set t = ns.s[2000000:] ~ 'b' %}" + Loop("{{ ns.s.rfind(t) }}")},
      {"splits of squared time",
       grow + "{% set t = ns.s[2000000:] ~ 'b' %}" + Loop("{{ ns.s.rsplit(t) | length }}")},
      {"counts of squared time",
       grow + "{% set t = ns.s[2000000:] ~ 'b' %}" + Loop("{{ ns.s.count(t) }}")},
      {"many replacements", grow + Loop("{{ ns.s.replace('', ns.s) | length }}")},
      {"wide replacements", grow + Loop("{{ ns.s | replace('a', 'bbbbbbbb') | length }}")},
      {"many words", grow + Loop("{{ ns.s.replace('a', 'a ').split() | length }}")},
      {"case of long strings", grow + Loop("{{ (ns.s ~ 'é') | title }}")},
      {"case of long strings that are not ASCII",
       "{% set s = 'éß' * 1000000 %}" + Loop("{{ s.title() }}")},
      {"stripping many characters",
       grow + "{% set t = 'bcdefghijk' * 1000 ~ 'a' %}" + Loop("{{ ns.s.strip(t) }}")},
      {"wide indents", "{{ ('a\n' * 1000000) | indent(255) }}"},
      {"wide JSON", "{{ ([[[[[[1]]]]]] * 50000) | tojson(indent=256) }}"},
      {"JSON with long separators",
       grow + "{{ range(10000) | list | tojson(separators=(ns.s, ns.s)) }}"},
      {"much JSON", Loop("{{ range(1000) | list | tojson }}")},
      {"many sorts", Loop("{{ range(10000) | sort(reverse=true) | first }}")},
      {"sorts of long strings",
       grow + "{% set l = [ns.s[:8000]] * 1000 %}" + Loop("{{ l | sort | length }}")},
      {"many uniques", Loop("{{ range(10000) | unique | list | length }}")},
      {"uniques of long strings",
       grow + "{% set l = [ns.s[:8000]] * 1000 %}" + Loop("{{ l | unique | list | length }}")},
      {"a dict that grows",
       ns + "{% set ns.d = {} %}" + Loop("{% set ns.d = dict(ns.d.items() | list + [(i, i)]) %}")},
      {"a namespace that grows is found slowly",
       ns + Loop("{% set ns.x = ns.x + [i] %}{{ i in ns.x }}")},
      {"long format", grow + Loop("{{ '%s%s%s%s' | format(ns.s, ns.s, ns.s, ns.s) | length }}")},
      {"long repr", grow + Loop("{{ '%r' | format([ns.s[:4000000]]) | length }}")},
      {"long str.format", grow + Loop("{{ '{0}{0}{0}'.format(ns.s) | length }}")},
      {"a long key", grow + Loop("{{ messages[0][ns.s] }}{{ messages[0][[ns.s[:4000000]]] }}")},
      {"reversals", grow + Loop("{{ ns.s[::-1] | reverse | first }}")},
      {"batches", Loop("{{ range(1000) | batch(1, 'x') | list | length }}")},
      {"groups", Loop("{{ ([{'a': 1}] * 10000) | groupby('a') | list }}")},
      {"macros that call one another twice",
       "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}"
       "{{ m(20) }}"},
      {"calls in loops", "{% macro m() %}{{ caller() }}{% endmacro %}" +
                             Loop("{% call m() %}{% call m() %}x{% endcall %}{% endcall %}")},
  };
}

// Row V11: 1 M steps, 8 MiB, 50 ms. Some single operations on the longest strings take longer than
// the time between two looks at the clock.
TEST(ChatTemplateV11, EveryBombEndsWithinItsBudget) {
  std::vector<Bomb> bombs = Explosions();
  for (Bomb& bomb : Labours()) bombs.push_back(std::move(bomb));
  for (const Bomb& bomb : bombs) {
    const double before = ThreadSeconds();
    const auto segments = Render(bomb.source);
    const double seconds = ThreadSeconds() - before;
    EXPECT_FALSE(segments.ok()) << bomb.name << ": " << Text(segments).size() << " bytes";
    EXPECT_LT(seconds, 0.4 * kSlowdown) << bomb.name << ": " << segments.status();
    EXPECT_THAT(std::string(segments.status().message()), HasSubstr("chat template: line "))
        << bomb.name;
  }
}

TEST(ChatTemplateV11, BudgetsAreNamed) {
  const auto message = [](const std::string& source) {
    const auto segments = Render(source);
    EXPECT_EQ(segments.status().code(), absl::StatusCode::kFailedPrecondition) << segments.status();
    return std::string(segments.status().message());
  };
  EXPECT_THAT(message("{{ 'aaaaaaaa' * 1024 * 1024 ~ 'a' }}"),
              HasSubstr("must render at most 8388608 bytes"));
  EXPECT_THAT(message("{{ 'aaaaaaaa' * 1024 * 1024 }}a"),
              HasSubstr("must render at most 8388608 bytes"));
  EXPECT_THAT(message("{{ [['aaaaaaaa' * 600 * 1024]] * 2 }}"),
              HasSubstr("must keep lists and dicts below"));
  const std::string steps = message("\n{{ 1 ** 2000000 }}");
  EXPECT_TRUE(steps == "chat template: line 2: must render within 1000000 steps" ||
              steps == "chat template: line 2: must render within 50ms")
      << steps;
}

TEST(ChatTemplateV11, OrdinaryConversationsAreFarFromTheBudget) {
  ChatInput input;
  const int messages = static_cast<int>(1000 / kSlowdown);
  for (int i = 0; i < messages; ++i) {
    input.messages.push_back(
        {{"role", i % 2 ? "assistant" : "user"}, {"content", Repeat("word ", 200)}});
  }
  const auto segments = Render(
      "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
      "{{ raise_exception('order') }}{% endif %}{{ '<|' + m['role'] + '|>\n' + m['content'] | trim "
      "+ '<|end|>\n' }}{% endfor %}",
      input);
  ASSERT_TRUE(segments.ok()) << segments.status();
  EXPECT_GT(Text(segments).size(), 1000u * messages);
}

// Row A23, where templates decide.
TEST(ChatTemplateA23, StrangeConversationsAreAnsweredWithAType) {
  const std::string source =
      "{% for m in messages %}{% if m.role not in ['user', 'assistant', 'system'] %}"
      "{{ raise_exception('unknown role ' ~ m.role) }}{% endif %}{{ m.role + m.content }}{% endfor "
      "%}";
  const auto render = [&](const Json& messages) {
    ChatInput input;
    input.messages = messages;
    return Render(source, input);
  };
  EXPECT_EQ(Text(render(Json::array())), "");
  const auto role = render(Json::array({{{"role", "wizard"}, {"content", "x"}}}));
  EXPECT_EQ(role.status(), absl::InvalidArgumentError("unknown role wizard"));
  for (const Json& messages :
       {Json::array({{{"role", "user"}, {"content", nullptr}}}), Json::array({{{"role", "user"}}}),
        Json::array({1}), Json::array({nullptr}), Json::array({Json::array()}), Json(7)}) {
    EXPECT_EQ(render(messages).status().code(), absl::StatusCode::kInvalidArgument) << messages;
  }
  Json many = Json::array();
  for (int i = 0; i < 100'000; ++i) many.push_back({{"role", "user"}, {"content", "x"}});
  const auto status = render(many).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
}

// Row E13: what no server can use is refused when the model is loaded.
TEST(ChatTemplateE13, BrokenTemplatesAreRefusedWithTheirLine) {
  const std::pair<std::string, const char*> broken[] = {
      {std::string(1 << 20, 'x'), "must have at most 262144 bytes; got 1048576"},
      {"\n{{ x | nosuch }}", "line 2: unknown filter nosuch"},
      {"{{ x is nosuch }}", "line 1: unknown test nosuch"},
      {"a\nb\n{% nosuch %}", "line 3: unknown tag nosuch"},
      {"{% if x %}", "expected {% endif"},
      {"{% for x in y recursive %}{% endfor %}", "recursive loops are not supported"},
      {"{{ 'open }}", "a string has no end"},
      {"{# open", "a comment has no end"},
      {"{{ 99999999999999999999 }}", "a number is too large"},
      {"{{ " + Repeat("(", 6000) + Repeat(")", 6000) + " }}", "nested deeper than 64"},
      {std::string("{{ \0 }}", 7), "unexpected character"},
      {"{{ \xFF }}{{ $ }}", "unexpected character '$'"},
  };
  for (const auto& [source, message] : broken) {
    const absl::Status status = ChatTemplate::Parse(source).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()),
                testing::AllOf(testing::StartsWith("chat template: "), HasSubstr(message)));
  }
}

}  // namespace
}  // namespace pregate
