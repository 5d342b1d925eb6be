// SPDX-License-Identifier: LGPL-2.1-or-later
#include "domain/domain_xml.h"

#include "ap/error.h"
#include "domain/state_reader.h"
#include "domain/xml_attributes.h"
#include "text/safe.h"
#include "text/utf8.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <unordered_set>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <libxml/parser.h>
#include <unistd.h>

namespace vfioap {
namespace {

// libxml2 2.12 made the error constant.
#if LIBXML_VERSION >= 21200
using XmlError = const xmlError*;
#else
using XmlError = xmlError*;
#endif

constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
constexpr std::string_view qemu_namespace = "http://libvirt.org/schemas/domain/qemu/1.0";
/// Devices that QEMU may be given by its command line; more than one does not work.
constexpr std::size_t most_passed_devices = 16;
constexpr std::string_view xml_blanks = " \t\r\n";

std::string_view view(const xmlChar* text) {
    return text == nullptr ? std::string_view{} : reinterpret_cast<const char*>(text);
}

/// A place in the document that only moves forwards, so that asking for many costs one pass.
class Place {
  public:
    explicit Place(std::string_view bytes) : bytes_{bytes} {}

    void move_to(std::size_t offset) {
        for (offset = std::min(offset, bytes_.size()); offset_ < offset; ++offset_) {
            const auto byte = static_cast<unsigned char>(bytes_[offset_]);
            if (byte == '\n') {
                ++line_;
                column_ = 1;
            } else if ((byte & 0xc0U) != 0x80) {
                ++column_;
            }
        }
    }
    [[nodiscard]] unsigned line() const { return line_; }
    [[nodiscard]] std::string to_string() const { return fmt::format("line {}, column {}", line_, column_); }

  private:
    std::string_view bytes_;
    std::size_t offset_ = 0;
    unsigned line_ = 1;
    unsigned column_ = 1;
};

/// What a document is to be.
struct Document {
    std::string_view expected;  ///< with its article
    std::string_view end_tag;
    bool state = false;  ///< a state element alone
};
constexpr Document domain_document{"a <domain> element", "</domain>"};
constexpr Document state_document{"a <config> element", "</config>", true};

[[noreturn]] void fail_at(std::string_view bytes, const std::string& origin, std::size_t offset,
                          std::string_view reason) {
    Place place{bytes};
    place.move_to(offset);
    throw InputError{origin, place.to_string(), reason};
}

[[noreturn]] void fail_size(const std::string& origin) {
    throw InputError{origin,
                     fmt::format("more than {} bytes; expected a domain XML document", domain_xml_max_bytes)};
}

/// What is asked of the bytes before libxml2 sees them: it would guess at encodings, and take hours over the
/// attributes of one long tag, and long over many names.
class Preflight {
  public:
    Preflight(std::string_view bytes, const std::string& origin, const Document& document)
        : bytes_{bytes}, origin_{origin}, document_{document} {}

    void run() const {
        if (bytes_.size() > domain_xml_max_bytes) fail_size(origin_);
        if (bytes_.starts_with("\xff\xfe") || bytes_.starts_with("\xfe\xff"))
            fail(0, "UTF-16 text; expected UTF-8");
        const std::size_t start = bytes_.starts_with(byte_order_mark) ? byte_order_mark.size() : 0;
        // Before the text, which is better explained by its declaration.
        check_declaration(start);
        check_text();
        const auto first = bytes_.find_first_not_of(xml_blanks, start);
        if (first == std::string_view::npos)
            fail(bytes_.size(), fmt::format("nothing in it; expected {}", document_.expected));
        if (bytes_[first] != '<')
            fail(first, fmt::format("text that is not XML; expected {}", document_.expected));
        check_tags();
    }

  private:
    [[noreturn]] void fail(std::size_t offset, std::string_view reason) const {
        fail_at(bytes_, origin_, offset, reason);
    }

    void check_text() const {
        for (std::size_t i = 0; i < bytes_.size();) {
            const auto length = utf8_length(bytes_.substr(i, 4));
            if (length == 0) fail(i, "a byte that is not UTF-8 text; expected UTF-8");
            if (bytes_[i] == '\0') fail(i, "a NUL byte; expected UTF-8 text");
            i += length;
        }
    }

    /// `<?xml version='1.0' encoding='…'?>`. A malformed one is left to libxml2 to complain of.
    void check_declaration(std::size_t start) const {
        static constexpr std::string_view open = "<?xml";
        // Not `<?xml-stylesheet`.
        if (bytes_.substr(start, open.size()) != open ||
            xml_blanks.find(bytes_.substr(start + open.size(), 1)) == std::string_view::npos)
            return;
        const auto declaration = bytes_.substr(0, bytes_.find("?>", start));
        const auto word = declaration.find("encoding", start + open.size());
        if (word == std::string_view::npos) return;
        const auto quote = declaration.find_first_of("'\"", word);
        if (quote == std::string_view::npos) return;
        auto value = declaration.substr(quote + 1);
        value = value.substr(0, value.find(declaration[quote]));
        std::string upper{value};
        for (char& c : upper)
            if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
        if (upper != "UTF-8")
            fail(quote + 1, fmt::format("encoding \"{}\" declared; expected UTF-8", printable(value)));
    }

    /// Counts the quoted values of each start tag, and the names in all. Ends early where libxml2 will end
    /// too.
    void check_tags() const {
        const auto skip = [this](std::size_t& at, std::string_view open, std::string_view close) {
            if (bytes_.substr(at, open.size()) != open) return false;
            at = bytes_.find(close, at + open.size());
            return true;
        };
        std::unordered_set<std::string_view> names;
        for (auto at = bytes_.find('<'); at != std::string_view::npos; at = bytes_.find('<', at)) {
            if (skip(at, "<!--", "-->") || skip(at, "<![CDATA[", "]]>")) continue;
            if (bytes_.substr(at, 2) == "<?") {
                add_name(names, at, word(at + 2));
                skip(at, "<?", "?>");
                continue;
            }
            if (bytes_.substr(at, 2) == "<!") return;
            at = check_tag(at, names);
        }
    }

    /// Gives the end of the tag that begins at `tag`.
    std::size_t check_tag(std::size_t tag, std::unordered_set<std::string_view>& names) const {
        std::size_t values = 0;
        bool is_namespace = false;
        auto at = tag + 1;
        while (at < bytes_.size() && bytes_[at] != '>' && bytes_[at] != '<') {
            if (const char c = bytes_[at]; c == '\'' || c == '"') {
                if (++values > domain_xml_max_attributes)
                    fail(tag,
                         fmt::format("an element with more than {} attributes", domain_xml_max_attributes));
                const auto end = bytes_.find(c, at + 1);
                if (end == std::string_view::npos) return end;
                if (is_namespace) add_name(names, tag, bytes_.substr(at + 1, end - at - 1));
                at = end + 1;
            } else if (const auto name = word(at); !name.empty()) {
                add_name(names, tag, name);
                is_namespace = name.starts_with("xmlns");
                at += name.size();
            } else {
                ++at;
            }
        }
        return at;
    }

    /// What is at `at` up to a character that parts names.
    [[nodiscard]] std::string_view word(std::size_t at) const {
        static constexpr std::string_view separators = " \t\r\n=/?'\"<>";
        const auto rest = bytes_.substr(std::min(at, bytes_.size()));
        const auto end = std::find_if(rest.begin(), rest.end(), [](char c) {
            return c <= '?' && separators.find(c) != std::string_view::npos;
        });
        return rest.substr(0, static_cast<std::size_t>(end - rest.begin()));
    }

    void add_name(std::unordered_set<std::string_view>& names, std::size_t tag, std::string_view name) const {
        names.insert(name);
        if (names.size() > domain_xml_max_names)
            fail(tag, fmt::format("more than {} different names", domain_xml_max_names));
    }

    std::string_view bytes_;
    const std::string& origin_;
    const Document& document_;
};

/// The elements that are known, by their place in the tree; all else is `other`, with all that is in it.
enum class Element : std::uint8_t {
    other,
    document,
    domain,
    metadata,
    state,
    state_part,  // a child of it that is known
    name,
    uuid,
    os,
    os_type,
    devices,
    emulator,
    hostdev,  // a vfio-ap one
    source,
    address,
    alias,
    driver,
    launch_security,
    memory_backing,
    memory_source,
    memory_access,
    hugepages,
    iommufd,
    command_line,  // of QEMU's namespace
    argument,
};

struct Step {
    Element parent;
    std::string_view name;
    Element child;
};
constexpr std::array<Step, 19> steps{{{Element::document, "domain", Element::domain},
                                      {Element::domain, "metadata", Element::metadata},
                                      {Element::domain, "name", Element::name},
                                      {Element::domain, "uuid", Element::uuid},
                                      {Element::domain, "os", Element::os},
                                      {Element::os, "type", Element::os_type},
                                      {Element::domain, "launchSecurity", Element::launch_security},
                                      {Element::domain, "devices", Element::devices},
                                      {Element::devices, "emulator", Element::emulator},
                                      {Element::devices, "hostdev", Element::hostdev},
                                      {Element::hostdev, "source", Element::source},
                                      {Element::hostdev, "alias", Element::alias},
                                      {Element::hostdev, "driver", Element::driver},
                                      {Element::domain, "memoryBacking", Element::memory_backing},
                                      {Element::memory_backing, "source", Element::memory_source},
                                      {Element::memory_backing, "access", Element::memory_access},
                                      {Element::memory_backing, "hugepages", Element::hugepages},
                                      {Element::domain, "iommufd", Element::iommufd},
                                      {Element::source, "address", Element::address}}};

/// One run of libxml2 over one document. libxml2 is C: no exception may pass through it, so each callback
/// keeps what it throws, and the parser is told to stop at the next element.
class Reader {
  public:
    Reader(std::string_view bytes, const std::string& origin, const Document& document)
        : bytes_{bytes}, origin_{origin}, document_{document}, place_{bytes} {}
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    Reader(Reader&&) = delete;
    Reader& operator=(Reader&&) = delete;
    ~Reader() = default;

    DomainXml read() {
        // Not safe to run in two threads at once when it is first needed.
        static const bool initialized = (xmlInitParser(), true);
        static_cast<void>(initialized);

        xmlSAXHandler handler{};
        handler.initialized = XML_SAX2_MAGIC;
        handler.internalSubset = [](void* self, const xmlChar*, const xmlChar*, const xmlChar*) {
            get(self).guard([&] { get(self).refuse_document_type(); });
        };
        handler.startElementNs = [](void* self, const xmlChar* name, const xmlChar*, const xmlChar* uri,
                                    int namespaces, const xmlChar**, int attributes, int,
                                    const xmlChar** fields) {
            get(self).guard([&] {
                get(self).start(view(name), view(uri), static_cast<std::size_t>(namespaces),
                                XmlAttributes{fields, attributes});
            });
        };
        handler.endElementNs = [](void* self, const xmlChar*, const xmlChar*, const xmlChar*) {
            get(self).guard([&] { get(self).end(); });
        };
        handler.characters = [](void* self, const xmlChar* text, int length) {
            get(self).guard([&] {
                get(self).characters({reinterpret_cast<const char*>(text), static_cast<std::size_t>(length)});
            });
        };
        handler.ignorableWhitespace = handler.characters;
        handler.cdataBlock = handler.characters;
        // With this set libxml2 itself prints nothing.
        handler.serror = [](void* self, XmlError error) { get(self).report(error); };

        const std::unique_ptr<xmlParserCtxt, void (*)(xmlParserCtxt*)> parser{
            xmlCreatePushParserCtxt(&handler, this, nullptr, 0, nullptr), xmlFreeParserCtxt};
        if (!parser) throw std::bad_alloc{};
        // XML_PARSE_NOENT is not among these: it would *expand* entities. (Without it an `&` in an attribute
        // comes as `&#38;`; no value that is wanted here has one.) The declared encoding was looked at.
        xmlCtxtUseOptions(parser.get(), XML_PARSE_NONET | XML_PARSE_IGNORE_ENC);
        parser_ = parser.get();
        // In one piece, since libxml2 starts an unfinished token from its beginning with each new piece.
        xmlParseChunk(parser_, bytes_.data(), static_cast<int>(bytes_.size()), 1);
        if (failure_) std::rethrow_exception(failure_);
        if (!open_.empty() || !root_seen_)
            fail(bytes_.size(), fmt::format("the document is cut off; expected {}", document_.end_tag));
        if (document_.state) return std::move(result_);
        if (!name_) fail(root_, "a domain without a name; expected <name>");
        result_.name = std::move(*name_);
        result_.emulator = std::move(emulator_).value_or("");
        return std::move(result_);
    }

  private:
    /// One element that is open.
    struct Open {
        Element element;
        std::size_t offset;
        std::size_t namespaces;
    };
    /// A vfio-ap hostdev that is open.
    struct Hostdev {
        std::optional<Uuid> mdev;
        std::optional<std::string> alias;
        bool source_seen = false;
        bool address_seen = false;
        bool iommufd = false;
        unsigned line = 0;
    };

    static Reader& get(void* self) { return *static_cast<Reader*>(self); }

    template <typename Callback>
    void guard(Callback callback) noexcept {
        if (!failure_) {
            try {
                callback();
            } catch (...) {
                failure_ = std::current_exception();
            }
        }
        if (failure_) xmlStopParser(parser_);
    }

    [[noreturn]] void fail(std::size_t offset, std::string_view reason) const {
        fail_at(bytes_, origin_, offset, reason);
    }

    /// Where libxml2 is now.
    [[nodiscard]] std::size_t offset() const {
        const auto consumed = xmlByteConsumed(parser_);
        return consumed < 0 ? 0 : std::min(static_cast<std::size_t>(consumed), bytes_.size());
    }

    /// The tag whose attributes libxml2 has just read: they cannot have a `<` in them.
    [[nodiscard]] std::size_t tag_offset() const {
        const auto here = offset();
        const auto tag = here == 0 ? std::string_view::npos : bytes_.rfind('<', here - 1);
        return tag == std::string_view::npos ? here : tag;
    }

    /// Called in the middle of libxml2's work, where it cannot be stopped: fatal errors stop it anyway, the
    /// others (of namespaces) at the next element.
    void report(XmlError error) noexcept {
        if (failure_ || error == nullptr || error->level < XML_ERR_ERROR) return;
        try {
            const auto here = offset();
            const bool at_end = bytes_.find_first_not_of(xml_blanks, here) == std::string_view::npos;
            if (at_end && (!root_seen_ || !open_.empty()))
                fail(here, fmt::format("the document is cut off; expected {}",
                                       root_seen_ ? document_.end_tag : document_.expected));
            fail(here, fmt::format("not well-formed; expected an XML document (libxml2: {})",
                                   printable(error->message == nullptr ? "" : error->message, 200)));
        } catch (...) {
            failure_ = std::current_exception();
        }
    }

    [[noreturn]] void refuse_document_type() const {
        fail(tag_offset(),
             fmt::format("a document type declaration; expected {} without one", document_.expected));
    }

    void start(std::string_view name, std::string_view uri, std::size_t namespaces,
               const XmlAttributes& attributes) {
        const auto tag = tag_offset();
        if (open_.size() >= domain_xml_max_depth)
            fail(tag, fmt::format("elements nested deeper than {}", domain_xml_max_depth));
        namespaces_ += namespaces;
        if (namespaces_ > domain_xml_max_attributes)
            fail(tag, fmt::format("more than {} namespaces declared", domain_xml_max_attributes));

        const auto parent = open_.empty() ? Element::document : open_.back().element;
        const auto element = document_.state && parent == Element::document ? check_state_root(name, uri, tag)
                                                                            : child(parent, name, uri);
        if (open_.empty()) {
            if (element != Element::domain && !document_.state)
                fail(tag, fmt::format("root element <{}>{}; expected <domain> without a namespace",
                                      printable(name), uri.empty() ? "" : " of a namespace"));
            root_seen_ = true;
            root_ = tag;
        }
        if (element == Element::state || element == Element::state_part) {
            open_.push_back({enter_state(element, name, tag, attributes), tag, namespaces});
            return;
        }
        open_.push_back({enter(element, tag, attributes), tag, namespaces});
    }

    [[nodiscard]] Element child(Element parent, std::string_view name, std::string_view uri) const {
        if (parent == Element::state) return uri == state_uri_ ? Element::state_part : Element::other;
        if (uri == qemu_namespace) {
            return parent == Element::domain && name == "commandline" ? Element::command_line
                   : parent == Element::command_line && name == "arg" ? Element::argument
                                                                      : Element::other;
        }
        if (!uri.empty()) {
            const bool state = parent == Element::metadata && name == "config" && uri == state_namespace;
            return state ? Element::state : Element::other;
        }
        const auto* const step = std::find_if(steps.begin(), steps.end(), [parent, name](const Step& s) {
            return s.parent == parent && s.name == name;
        });
        return step == steps.end() ? Element::other : step->child;
    }

    /// Of a state alone. libvirt gives it without its namespace.
    Element check_state_root(std::string_view name, std::string_view uri, std::size_t tag) {
        if (name != "config" || (!uri.empty() && uri != state_namespace))
            fail(tag,
                 fmt::format("root element <{}>{}; expected <config> of the namespace {}, or of none",
                             printable(name), uri.empty() ? "" : " of another namespace", state_namespace));
        state_uri_ = uri;
        return Element::state;
    }

    /// Does what may find fault with the state; the first fault is kept, and what follows is passed over.
    template <typename Action>
    bool in_state(std::size_t tag, Action action) {
        if (!result_.state_error.empty()) return false;
        try {
            if (offset() - state_offset_ > state_max_bytes)
                throw StateProblem{fmt::format("a state of more than {} bytes", state_max_bytes)};
            return action();
        } catch (const StateProblem& problem) {
            Place place{bytes_};
            place.move_to(tag);
            result_.state_error = fmt::format("{}: {}", place.to_string(), problem.what());
            result_.state.reset();
            return false;
        }
    }

    Element enter_state(Element element, std::string_view name, std::size_t tag,
                        const XmlAttributes& attributes) {
        if (element == Element::state) state_offset_ = tag;
        const bool known = in_state(tag, [&] {
            if (element == Element::state_part) return state_->begin_part(name, attributes);
            if (state_) throw StateProblem{"a second state; expected one"};
            state_ = std::make_unique<StateReader>();
            state_->begin(attributes);
            return true;
        });
        return known ? element : Element::other;
    }

    /// Takes what the element says of itself. Gives `other` where what is in it does not matter.
    Element enter(Element element, std::size_t tag, const XmlAttributes& attributes) {
        switch (element) {
            case Element::domain:
                result_.type = value(attributes, "type", "type", tag).value_or("");
                return element;
            case Element::name:
                return begin_text(name_) ? element : Element::other;
            case Element::uuid:
                return !result_.uuid && begin_text(uuid_) ? element : Element::other;
            case Element::emulator:
                return begin_text(emulator_) ? element : Element::other;
            case Element::os_type:
                if (os_type_seen_) return Element::other;
                os_type_seen_ = true;
                result_.arch = value(attributes, "arch", "arch", tag).value_or("");
                result_.machine = value(attributes, "machine", "machine", tag).value_or("");
                return element;
            case Element::launch_security:
                result_.secure_execution = result_.secure_execution || attributes.is("type", "s390-pv");
                return element;
            case Element::hostdev:
                if (attributes.find("mode").value_or("subsystem") != "subsystem" ||
                    !attributes.is("type", "mdev") || !attributes.is("model", "vfio-ap"))
                    return Element::other;
                hostdev_ = {};
                place_.move_to(tag);
                hostdev_.line = place_.line();
                return element;
            case Element::source:
                return std::exchange(hostdev_.source_seen, true) ? Element::other : element;
            case Element::address:
                if (std::exchange(hostdev_.address_seen, true)) return Element::other;
                take_mdev(attributes, tag);
                return element;
            case Element::alias:
                if (!hostdev_.alias) hostdev_.alias = value(attributes, "name", "alias", tag);
                return element;
            case Element::driver:
                hostdev_.iommufd = attributes.is("iommufd", "yes");
                return element;
            case Element::memory_source:
                result_.live_update.memory_source = value(attributes, "type", "source", tag).value_or("");
                return element;
            case Element::memory_access:
                result_.live_update.memory_access = value(attributes, "mode", "access", tag).value_or("");
                return element;
            case Element::hugepages:
                result_.live_update.hugepages = true;
                return element;
            case Element::iommufd:
                result_.live_update.iommufd = attributes.is("enabled", "yes");
                return element;
            case Element::argument:
                take_argument(attributes.find("value").value_or(""));
                return element;
            case Element::memory_backing:
            case Element::command_line:
            case Element::metadata:
            case Element::state:
            case Element::state_part:
            case Element::os:
            case Element::devices:
            case Element::document:
            case Element::other:
                break;
        }
        return element;
    }

    /// One word of QEMU's command line: options in `key=value,…` form, or in JSON.
    void take_argument(std::string_view argument) {
        auto& known = result_.live_update;
        if (argument.find("aux-ram-share=on") != std::string_view::npos ||
            argument.find("\"aux-ram-share\":true") != std::string_view::npos)
            known.aux_ram_share = true;
        if (argument.find("aux-ram-share=off") != std::string_view::npos) known.aux_ram_share = false;
        static constexpr std::string_view path = "/sys/bus/mdev/devices/";
        const auto at = argument.find(path);
        if (argument.find("vfio-ap") == std::string_view::npos || at == std::string_view::npos) return;
        const auto mdev = Uuid::parse(argument.substr(at + path.size(), 36));
        if (!mdev || known.devices.size() >= most_passed_devices) return;
        const bool iommufd = argument.find(",iommufd=") != std::string_view::npos ||
                             argument.find("\"iommufd\":\"") != std::string_view::npos;
        known.devices.push_back({*mdev, iommufd});
    }

    void take_mdev(const XmlAttributes& attributes, std::size_t tag) {
        const auto text = attributes.find("uuid");
        if (!text) fail(tag, "the address of a vfio-ap hostdev without a uuid; expected the UUID of an mdev");
        hostdev_.mdev = Uuid::parse(*text);
        if (!hostdev_.mdev)
            fail(tag,
                 fmt::format("a vfio-ap hostdev with uuid \"{}\"; expected a UUID of the form 8-4-4-4-12",
                             printable(*text)));
    }

    void end() {
        const Open closed = open_.back();
        open_.pop_back();
        namespaces_ -= closed.namespaces;
        switch (closed.element) {
            case Element::name:
                check_value(*name_, "name", closed.offset);
                if (name_->empty()) fail(closed.offset, "an empty <name>; expected the name of the guest");
                break;
            case Element::emulator:
                check_value(*emulator_, "emulator", closed.offset);
                break;
            case Element::uuid:
                end_uuid(closed.offset);
                break;
            case Element::hostdev:
                if (!hostdev_.mdev)
                    fail(closed.offset, "a vfio-ap hostdev without an mdev; expected <source><address uuid=");
                result_.vfio_ap.push_back({std::move(*hostdev_.mdev), std::move(hostdev_.alias).value_or(""),
                                           hostdev_.line, hostdev_.iommufd});
                break;
            case Element::state:
                in_state(closed.offset, [&] {
                    result_.state = state_->end();
                    return true;
                });
                break;
            case Element::state_part:
                in_state(closed.offset, [&] {
                    state_->end_part();
                    return true;
                });
                break;
            default:
                break;
        }
    }

    void end_uuid(std::size_t tag) {
        std::string_view text{*uuid_};
        text.remove_prefix(std::min(text.find_first_not_of(xml_blanks), text.size()));
        result_.uuid = Uuid::parse(text.substr(0, text.find_last_not_of(xml_blanks) + 1));
        if (!result_.uuid)
            fail(tag, fmt::format("a domain with uuid \"{}\"; expected a UUID of the form 8-4-4-4-12",
                                  printable(*uuid_)));
    }

    /// False when there was such an element before: the first one counts.
    static bool begin_text(std::optional<std::string>& text) {
        if (text) return false;
        text.emplace();
        return true;
    }

    void characters(std::string_view piece) {
        if (open_.empty()) return;
        const auto add = [this, piece](std::string& text, std::string_view what) {
            if (text.size() + piece.size() > domain_xml_max_value) fail_long(what, open_.back().offset);
            text += piece;
        };
        switch (open_.back().element) {
            case Element::name:
                return add(*name_, "name");
            case Element::uuid:
                return add(*uuid_, "uuid");
            case Element::emulator:
                return add(*emulator_, "emulator");
            case Element::state_part:
                if (result_.state_error.empty()) state_->text(piece);
                return;
            default:
                return;
        }
    }

    /// What is taken over may come to stand in a message, a log or a path.
    void check_value(std::string_view text, std::string_view what, std::size_t tag) const {
        if (text.size() > domain_xml_max_value) fail_long(what, tag);
        if (has_control(text))
            fail(tag, fmt::format("{} with a control character in it; expected one line of text", what));
    }
    [[noreturn]] void fail_long(std::string_view what, std::size_t tag) const {
        fail(tag, fmt::format("{} of more than {} bytes", what, domain_xml_max_value));
    }

    [[nodiscard]] std::optional<std::string> value(const XmlAttributes& attributes, std::string_view name,
                                                   std::string_view what, std::size_t tag) const {
        const auto text = attributes.find(name);
        if (!text) return {};
        check_value(*text, what, tag);
        return std::string{*text};
    }

    std::string_view bytes_;
    const std::string& origin_;
    const Document& document_;
    Place place_;
    xmlParserCtxt* parser_ = nullptr;
    std::exception_ptr failure_;

    std::vector<Open> open_;
    std::size_t namespaces_ = 0;
    std::size_t root_ = 0;
    bool root_seen_ = false;
    bool os_type_seen_ = false;
    std::optional<std::string> name_;
    std::optional<std::string> uuid_;
    std::optional<std::string> emulator_;
    Hostdev hostdev_;
    std::unique_ptr<StateReader> state_;  // most guests have none
    std::string_view state_uri_ = state_namespace;
    std::size_t state_offset_ = 0;
    DomainXml result_;
};

class OpenFile {
  public:
    explicit OpenFile(const std::string& path) : fd_{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY)} {
        if (fd_ < 0) throw SystemError{"open", path, errno};
    }
    ~OpenFile() { ::close(fd_); }
    OpenFile(const OpenFile&) = delete;
    OpenFile& operator=(const OpenFile&) = delete;
    OpenFile(OpenFile&&) = delete;
    OpenFile& operator=(OpenFile&&) = delete;
    [[nodiscard]] int fd() const { return fd_; }

  private:
    int fd_;
};

}  // namespace

DomainXml parse_domain_xml(std::string_view bytes, const std::string& origin) {
    Preflight{bytes, origin, domain_document}.run();
    return Reader{bytes, origin, domain_document}.read();
}

DomainState parse_state(std::string_view bytes, const std::string& origin) {
    Preflight{bytes, origin, state_document}.run();
    auto result = Reader{bytes, origin, state_document}.read();
    if (!result.state) throw InputError{origin, result.state_error};
    return *std::move(result.state);
}

std::string read_domain_xml(int fd, const std::string& origin) {
    std::string bytes;
    while (true) {
        const auto used = bytes.size();
        const auto piece = std::clamp(used, std::size_t{16} * 1024, std::size_t{64} * 1024);
        bytes.resize(used + piece);
        const auto got = ::read(fd, bytes.data() + used, piece);
        if (got < 0 && errno != EINTR) throw SystemError{"read", origin, errno};
        bytes.resize(used + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
        if (got == 0) return bytes;
        if (bytes.size() > domain_xml_max_bytes) fail_size(origin);
    }
}

DomainXml load_domain_xml(int fd, const std::string& origin) {
    return parse_domain_xml(read_domain_xml(fd, origin), origin);
}

DomainXml load_domain_xml(const std::string& path) {
    const OpenFile file{path};
    return load_domain_xml(file.fd(), path);
}

}  // namespace vfioap
